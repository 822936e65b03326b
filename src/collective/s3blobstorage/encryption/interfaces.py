"""The contracts of encryption: what is asked of the store, which keys there are, and where they come from.

A server-side encryption adds parameters to the store's requests and checks the store's answers. Only the echo in the
response counts: some stores ignore a header they do not know and keep the object in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import Attribute, Interface


class IServerSideEncryption(Interface):
    """Server-side encryption, asked for by request parameters (names as boto3's S3 client spells them).

    ``key`` is an object's key relative to the prefix.
    """

    name = Attribute("str: 'none', 'sse-s3', 'sse-kms', 'sse-c': for logs and status pages")
    needs_tls = Attribute("bool: the key travels with the request, plain http is refused at start")
    own_key = Attribute("bool: whoever reads an object has to send a key of ours: no URL can be signed for others")

    def write_parameters() -> Mapping[str, Any]:
        """For PutObject, CreateMultipartUpload and as target of CopyObject."""

    def part_parameters() -> Mapping[str, Any]:
        """For UploadPart and UploadPartCopy."""

    def read_parameters() -> Mapping[str, Any]:
        """For GetObject and HeadObject."""

    def copy_source_parameters() -> Mapping[str, Any]:
        """For the source of CopyObject and UploadPartCopy."""

    def written_metadata(key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """What of the object's metadata the store may know: with a key of our own, no hash of the content."""

    def read_metadata(key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """The reverse of ``written_metadata``; other metadata as they are. Raises Corrupt."""

    def check_echo(response: Mapping[str, Any]) -> None:
        """Raise EncryptionNotHonoured where the response of a write lacks the echo of what was asked.

        Of a request that carried ``write_parameters`` or ``part_parameters``. Where these are empty the answer is not
        asked: with keys of the store's own a part says nothing of encryption, and not every store answers more than it
        was asked. That the upload as a whole is encrypted, the answer of CreateMultipartUpload has told.
        """

    def check_read(key: str, response: Mapping[str, Any]) -> None:
        """Raise EncryptionNotHonoured where the response of a read shows that the object is not encrypted like this, as
        far as that is asked for (``require-encryption``), or as it must be to be read."""


class IEncryption(Interface):
    """What the encryption sections of a storage or source ask for together: the first one is how objects are written,
    all of them are ways in which objects may have been written before. Constant; makes no request."""

    name = Attribute("str: of the first section, 'none' without any: none, sse-s3, sse-kms, sse-c, client-side, …")
    server_side = Attribute("IServerSideEncryption: what every write asks of the store")
    readers = Attribute(
        "tuple of IServerSideEncryption: how an object may have to be asked for, most likely first, until one fits;"
        " one that does not fit is refused by the store, or shows in the answer"
    )
    ring = Attribute("KeyRing or None: the keys of all sections; its active one is that of the first section with keys")
    seals = Attribute("bool: blobs are encrypted here before they are sent, with the ring's active key")
    required = Attribute("bool: a blob that is not encrypted as the first section says is refused")


class IEncryptionSection(Interface):
    """What the datatype of a section type gives that implements ``collective.s3blobstorage.encryption``.

    Other packages may have some; docs/encryption.md has an example.
    """

    type = Attribute("str: the section's type, as it stands in the file: which section an error is about")

    def settings(environ: Mapping[str, str]) -> IEncryptionMode:
        """What the section says, when it was parsed and again before the storage is opened, in that thread.

        Makes no request, and imports nothing that takes long. ``environ``: what the process has then, which may have
        been added to meanwhile by zope.conf's ``<environment>``. Raises ConfigurationError.
        """


class IKeySection(Interface):
    """What the datatype of a section type gives that implements ``collective.s3blobstorage.key``."""

    def settings(environ: Mapping[str, str]) -> IKeyProvider:
        """As ``IEncryptionSection.settings``; no key is read before the provider is asked for it."""


class IEncryptionMode(Interface):
    """One way in which objects are encrypted, as one section says it. Constant; makes no request, reads no key.

    ``ring``: the keys of all sections, None where no section has any.
    """

    name = Attribute("str: as ``IEncryption.name``, where the section is the first one")
    providers = Attribute("tuple of IKeyProvider: the section's keys, () where it has none")
    active = Attribute("str or None: the id of that one of them which writes")
    seals = Attribute("bool: as ``IEncryption.seals``")

    def server_side(ring: Any, required: bool) -> IServerSideEncryption:
        """What a write asks of the store, where the section is the first one. ``required``: ``require-encryption``."""

    def readers(ring: Any) -> tuple[IServerSideEncryption, ...]:
        """How its objects have to be asked for, most likely first; () where no key need be sent to read them."""


class IKeyProvider(Interface):
    """Where one key of a ring comes from. Other packages may have section types whose datatype gives one."""

    id = Attribute("str: 1 to 64 letters, digits, dots, hyphens and underscores")
    source = Attribute("str: for people: 'file /run/secrets/blob-key', 'environment', 'AWS KMS alias/plone'; no secret")
    keeps = Attribute("bool: the key is wrapped by somebody else, and the bucket keeps it in that form")

    def material(kept: bytes | None) -> bytes:
        """The 32 bytes. ``kept`` is what ``make`` gave when the key was added, where ``keeps``; None: never added.

        In the thread that opens or the first one that needs the key; may take as long as a program or a request does.
        Raises ConfigurationError, naming the setting and never a byte of the key, where it cannot be had, and
        Unavailable where trying again may help.
        """

    def make() -> bytes:
        """A new key, wrapped, for ``material``; only where ``keeps``. Raises as ``material``."""
