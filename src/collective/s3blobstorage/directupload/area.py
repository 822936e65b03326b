"""The staging area of one storage. See ``interfaces.py``."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from zope.interface import implementer

from ..encryption.interfaces import IServerSideEncryption
from ..encryption.managed import SSES3
from ..encryption.none import NoEncryption
from ..errors import (
    ConfigurationError,
    Corrupt,
    EncryptionKeyMissing,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from ..keys import upload_key
from ..objectstore import parts as cutting
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..objectstore.presigned import Presigned
from ..settings import UploadSettings
from .interfaces import Arrived, IUploadArea, Upload, UploadWrong
from .staged import StagedObject

logger = logging.getLogger(__name__)

_READ_ONLY = "nothing can be uploaded to a storage that is read-only (read-only, or below a DemoStorage)"
SECONDS = 2.0  # two dates of whole seconds that are so far apart are two dates
LOOKS = 5  # at most: gateways of one store may differ by some seconds, and a thread of the site waits


@implementer(IUploadArea)
class UploadArea:
    """``store`` keeps the blobs. ``writable``: False where nothing may be changed. Makes no request when made.

    ``begun`` is called when an upload begins, and must not wait: it has what others abandoned swept.
    """

    def __init__(
        self,
        store: IObjectStore,
        settings: UploadSettings,
        *,
        writable: bool = True,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self._begun = begun
        self._blobs = store
        self._writable = writable and not store.read_only  # type: ignore[attr-defined]
        encryption = store.encryption
        # Where a key of ours encrypts blobs no browser has it: the store's own does it as long as they wait there.
        instead = encryption.seals or encryption.server_side.own_key
        self._encryption: IServerSideEncryption = encryption.server_side
        if instead:
            self._encryption = SSES3(required=False) if settings.staging == "sse-s3" else NoEncryption()
        # Whether the store encrypts as it is asked to. With the storage's own encryption its opening has shown that.
        # Two threads may find out the same at a time.
        self._confirmed: bool | None = None if instead and settings.staging == "sse-s3" else True
        self._made: IObjectStore | None = None

    @property
    def _store(self) -> IObjectStore:
        """The same bucket, as what is uploaded is encrypted. Made late: a store that was out at the start is opened
        first, and may be corrected then."""
        if self._made is None:
            self._made = self._blobs.encrypted_with(self._encryption)
        return self._made

    # Whether

    def why_not(self, *, ask: bool = True) -> str:
        if not self.settings.allowed:
            return "direct-upload is off in zope.conf"
        if not self._writable:
            return _READ_ONLY
        if self._confirmed is None:
            if not ask:
                return ""
            try:
                self._confirmed = self._try_out()
            except Refused:
                return (
                    "the object store refuses an object in its staging area, uploads/: its credentials may not write"
                    " there, or it does not know encryption with a key of its own (SSE-S3); direct-upload-staging none"
                    " asks for none"
                )
        if self._confirmed:
            return ""
        return (
            "the object store does not confirm that it encrypts with a key of its own (SSE-S3), so files would lie in"
            " clear until they are completed; direct-upload-staging none allows that"
        )

    def _try_out(self) -> bool:
        key = upload_key(secrets.token_hex(16))
        try:
            self._store.put_bytes(key, b"is this encrypted?")  # which is deleted again where it is not confirmed
        except EncryptionNotHonoured:
            return False
        with suppress(Refused):  # credentials need not be allowed to delete: it is swept
            self._store.delete([key])
        return True

    def _check(self) -> None:
        why = self.why_not()
        if why:
            raise ConfigurationError(f"Files cannot be uploaded directly: {why}.")

    def _check_writable(self) -> None:
        if not self._writable:
            raise ConfigurationError(f"Files cannot be uploaded directly: {_READ_ONLY}.")

    # Beginning

    def begin(self, size: int, *, single: bool | None = None, sha256: bytes | None = None) -> Upload:
        if not 1 <= size <= self.settings.most_size:
            raise ValueError(f"a file of 1 to {self.settings.most_size} bytes can be uploaded (direct-upload-max-size)")
        if single and size > cutting.MAX_COPY:
            raise ValueError("more than 5 GiB go in parts only")
        self._check()
        if single is None:
            # In parts, and be it one: nobody can put other bytes there once they were put together. What goes in one
            # request can be sent again as long as its URL is good, unless its hash is signed and compared.
            single = sha256 is not None and cutting.is_single(size)
        self._begun()
        id = secrets.token_hex(16)
        if single:
            return Upload(id, size, 0, "", self._store.now(), sha256)
        provider = self._store.provider  # type: ignore[attr-defined]
        each = cutting.part_size(
            size,
            provider.value("most_parts") or cutting.MAX_PARTS,
            provider.value("smallest_part") or cutting.SMALLEST_PART,
        )
        multipart = self._store.begin_upload(upload_key(id))  # whose answer tells what time it is there
        return Upload(id, size, each, multipart, self._store.now(), sha256)

    def put_request(self, upload: Upload, *, seconds: int) -> Presigned:
        self._check_writable()
        _check_single(upload)
        key = upload_key(upload.id)
        # A store that does not take the newer headers gets none: ``finish`` reads the object then.
        takes = self._store.provider.value("checksum_headers") is not False  # type: ignore[attr-defined]
        return self._store.presign_put(key, seconds=seconds, size=upload.size, sha256=upload.sha256 if takes else None)

    def post_request(self, upload: Upload, *, seconds: int) -> Presigned:
        self._check_writable()
        _check_single(upload)
        provider = self._store.provider  # type: ignore[attr-defined]
        if provider.value("post_policies") is False:
            raise ConfigurationError(
                f"s3-provider: {provider.title} takes no upload by a form (POST); send the file by PUT or in parts"
            )
        return self._store.presign_post(upload_key(upload.id), seconds=seconds, least=upload.size, most=upload.size)

    def part_request(self, upload: Upload, number: int, *, seconds: int) -> Presigned:
        self._check_writable()
        key, size = upload_key(upload.id), upload.size_of(number)
        return self._store.presign_part(key, upload.multipart, number, seconds=seconds, size=size)

    # What is there

    def arrived(self, upload: Upload) -> list[Arrived]:
        key = upload_key(upload.id)
        if upload.multipart:
            try:
                return [Arrived(*part) for part in self._store.list_parts(key, upload.multipart)]
            except ObjectMissing:
                pass
        info = self._head(key)
        if not upload.multipart:
            return [] if info is None else [Arrived(1, info.size, info.etag)]
        if info is None:
            raise UploadWrong("nothing of this upload is left: begin it anew", gone=True)
        return [Arrived(number, upload.size_of(number), "") for number in range(1, upload.parts + 1)]

    def finish(self, upload: Upload) -> StagedObject:
        self._check_writable()
        key = upload_key(upload.id)
        if upload.multipart:
            self._put_together(key, upload)
        info = self._head(key)
        if info is None:
            why = "nothing was uploaded, or nothing of it is left"
            raise UploadWrong(why, gone=True, incomplete=not upload.multipart)
        if info.size != upload.size:
            raise UploadWrong(f"{info.size} bytes were uploaded, and {upload.size} were announced")
        self._check_encrypted(info, upload)
        if not upload.multipart:
            info = self._aged(info)  # also with a hash: not every store compares it, and a form has none
        staged = StagedObject(self._blobs, self._store, info, again=not upload.multipart)
        if upload.sha256 is not None:
            staged.compare(upload.sha256, provable=not upload.multipart)
        return staged

    def _aged(self, info: ObjectInfo) -> ObjectInfo:
        """The object once it is so old that whatever is stored there from now on has another date.

        Whoever has the URL can send again, and two files can be made that have one MD5, which the ETag is. A hash that
        was announced does not help: no form has it, and not every store compares it. Dates are of whole seconds, ours
        of the store's time too. So this waits for ``SECONDS``, of what was sent just now; not for what is sent
        meanwhile, or it could be made to wait for ever.
        """
        if info.last_modified is None:
            return info
        for _ in range(LOOKS):
            young = SECONDS - (self._store.now() - info.last_modified).total_seconds()
            if young <= 0:
                return info
            time.sleep(min(young, SECONDS))
            there = self._head(info.key)
            if there is None or (there.etag, there.last_modified) != (info.etag, info.last_modified):
                raise PreconditionFailed("The object was changed.")
        raise Unavailable("The object store dates what was just uploaded in the future; complete it once more.")

    def _head(self, key: str) -> ObjectInfo | None:
        try:
            return self._store.head(key)
        except (Corrupt, EncryptionKeyMissing):
            # Not every store refuses headers of metadata that were not signed.
            raise UploadWrong("what was uploaded calls itself an encrypted object of this storage") from None

    def _put_together(self, key: str, upload: Upload) -> None:
        try:
            listed = list(self._store.list_parts(key, upload.multipart))
        except ObjectMissing:
            return  # it was put together before, or another thread was faster; ``finish`` looks
        sizes = {number: size for number, size, _ in listed}
        wrong = [number for number in sizes if number > upload.parts or sizes[number] != upload.size_of(number)]
        missing = [number for number in range(1, upload.parts + 1) if number not in sizes]
        if wrong:
            raise UploadWrong(f"part {wrong[0]} is not the one that was announced: send it again")
        if missing:
            are = "1 part is" if len(missing) == 1 else f"{len(missing)} parts are"
            raise UploadWrong(f"{are} missing, the first is {missing[0]}", incomplete=True)
        # Another thread may put it together just now, or an attempt whose answer was lost has: ``finish`` looks.
        try:
            self._store.finish_upload(key, upload.multipart, [(number, etag) for number, _, etag in listed])
        except ObjectMissing:
            pass
        except PreconditionFailed:
            raise UploadWrong("a part was sent again while they were put together", incomplete=True) from None

    def _check_encrypted(self, info: ObjectInfo, upload: Upload) -> None:
        algorithm, _, key = info.encrypted.partition(" ")
        try:
            self._encryption.check_echo({"ServerSideEncryption": algorithm, "SSEKMSKeyId": key})
        except EncryptionNotHonoured:
            logger.error("an upload is not encrypted as it was asked for (direct-upload-staging); it is deleted")
            with suppress(StoreError):
                self.drop(upload)
            raise

    # Ending

    def drop(self, upload: Upload) -> None:
        self._check_writable()
        key = upload_key(upload.id)
        if upload.multipart:
            self._store.abort_upload(key, upload.multipart)
        self._store.delete([key])


def _check_single(upload: Upload) -> None:
    if upload.multipart:
        raise ValueError("this upload goes in parts")
