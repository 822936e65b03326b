"""Server-side encryption with keys that the store, or its key management service, keeps: SSE-S3 and SSE-KMS.

Only what makes an object asks for it: PutObject, CreateMultipartUpload, CopyObject. Whoever may read the object (and,
with KMS, may use the key) gets it in clear without asking, so URLs can be signed for others.
Protocol: Amazon S3 API reference, PutObject; Amazon S3 User Guide, "Using server-side encryption with Amazon S3 managed
keys (SSE-S3)", "… with AWS KMS keys (SSE-KMS)", "Using dual-layer server-side encryption" (DSSE-KMS).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from .. import keys
from ..errors import EncryptionNotHonoured
from .interfaces import IServerSideEncryption
from .none import NoEncryption

_AES256 = "AES256"
_KMS = "aws:kms"
_DSSE = "aws:kms:dsse"


class _Managed(NoEncryption):
    """What the two have in common. ``required``: refuse to read a blob that the store did not encrypt like this."""

    def __init__(self, *, required: bool) -> None:
        self.required = required

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def check_read(self, key: str, response: Mapping[str, Any]) -> None:
        # Blobs alone: what else lies under the prefix may be older than the setting, and holds no content.
        if self.required and key.startswith(keys.BYTES) and not self._is_enough(_algorithm(response)):
            raise EncryptionNotHonoured(
                f"An object is not encrypted by the store as <{self.name}> asks for, and require-encryption is on."
            )

    def _is_enough(self, algorithm: str) -> bool:
        raise NotImplementedError


@implementer(IServerSideEncryption)
class SSES3(_Managed):
    """With a key of the store's own (``<sse-s3>``). ``required``: KMS counts as well, since it asks for more."""

    name = "sse-s3"

    def write_parameters(self) -> Mapping[str, Any]:
        return {"ServerSideEncryption": _AES256}

    def check_echo(self, response: Mapping[str, Any]) -> None:
        if _algorithm(response) != _AES256:
            raise EncryptionNotHonoured("The object store did not confirm that it encrypts (<sse-s3>).")

    def _is_enough(self, algorithm: str) -> bool:
        return algorithm == _AES256 or _is_kms(algorithm)


@implementer(IServerSideEncryption)
class SSEKMS(_Managed):
    """With a key of a key management service (``<sse-kms>``).

    ``key_id``: id, ARN or alias of the key; None is the account's default one, which not every store has. ``context``:
    what KMS binds its answer to and writes into its log; readable to whoever may see that, so no secret.
    ``bucket_key``: one request to KMS for many objects. ``dsse``: two layers; there ``bucket_key`` does not exist.
    ``required``: any KMS counts, whatever the key, so that a change of keys leaves what is there readable.
    """

    name = "sse-kms"

    def __init__(
        self, key_id: str | None, context: Mapping[str, str], *, bucket_key: bool, dsse: bool, required: bool
    ) -> None:
        super().__init__(required=required)
        self.key_id = key_id
        self.algorithm = _DSSE if dsse else _KMS
        self._parameters: dict[str, Any] = {"ServerSideEncryption": self.algorithm}
        if key_id is not None:
            self._parameters["SSEKMSKeyId"] = key_id
        if context:
            text = json.dumps(dict(context), separators=(",", ":"), sort_keys=True)
            self._parameters["SSEKMSEncryptionContext"] = base64.b64encode(text.encode()).decode()
        if not dsse:
            # Also where it is off: without it the bucket's default would count.
            self._parameters["BucketKeyEnabled"] = bucket_key

    def write_parameters(self) -> Mapping[str, Any]:
        return self._parameters

    def check_echo(self, response: Mapping[str, Any]) -> None:
        if _algorithm(response) != self.algorithm:
            raise EncryptionNotHonoured("The object store did not confirm that it encrypts with KMS (<sse-kms>).")
        if not self._is_key(str(response.get("SSEKMSKeyId") or "")):
            raise EncryptionNotHonoured("The object store encrypted with another key than kms-key-id of <sse-kms>.")

    def _is_key(self, told: str) -> bool:
        """Whether the store may have meant our key. AWS tells an ARN, which ends with the id, Ceph what it was given.

        A store that tells no key is believed, and so is any key where we gave an alias: what that stands for, only KMS
        knows.
        """
        ours = self.key_id
        if ours is None or not told or _is_alias(ours) or _is_alias(told):
            return True
        return told.rpartition("/")[2] == ours.rpartition("/")[2]

    def _is_enough(self, algorithm: str) -> bool:
        return _is_kms(algorithm)


def _algorithm(response: Mapping[str, Any]) -> str:
    return str(response.get("ServerSideEncryption") or "")


def _is_kms(algorithm: str) -> bool:
    return algorithm in (_KMS, _DSSE)


def _is_alias(key_id: str) -> bool:
    """``alias/name``, or such an ARN (AWS KMS Developer Guide, "Key identifiers")."""
    return key_id.rpartition(":")[2].startswith("alias/")
