"""The staging area of one storage. See ``interfaces.py``."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from zope.interface import implementer

from ..encryption.managed import SSES3
from ..encryption.none import NoEncryption
from ..errors import ConfigurationError, EncryptionNotHonoured, ObjectMissing
from ..keys import UPLOADS, is_upload_key, upload_key
from ..objectstore import parts as cutting
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..objectstore.presigned import Presigned
from ..settings import UploadSettings
from .interfaces import Arrived, IUploadArea, Upload, UploadWrong
from .staged import StagedObject


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
        own = encryption.seals or encryption.server_side.own_key
        # Where a key of ours encrypts blobs no browser has it: the store's own does it as long as they wait there.
        self._instead = own
        self._asks = SSES3(required=False) if settings.staging == "sse-s3" else NoEncryption()
        self._store = store.encrypted_with(self._asks if own else encryption.server_side)
        self._lock = threading.Lock()
        self._confirmed = not (own and settings.staging == "sse-s3")

    # Whether

    def why_not(self) -> str:
        if not self.settings.allowed:
            return "direct-upload is off in zope.conf"
        if not self._writable:
            return "nothing can be uploaded to a storage that is read-only (read-only, or below a DemoStorage)"
        with self._lock:
            if self._confirmed:
                return ""
            try:
                self._try_out()
            except EncryptionNotHonoured:
                return (
                    "the object store does not confirm that it encrypts with a key of its own (SSE-S3), so files would"
                    " lie in clear until they are completed; direct-upload-staging none allows that"
                )
            self._confirmed = True
            return ""

    def _try_out(self) -> None:
        key = upload_key(secrets.token_hex(16))
        self._store.put_bytes(key, b"is this encrypted?")  # which is deleted again where it is not confirmed
        self._store.delete([key])

    def _check(self) -> None:
        why = self.why_not()
        if why:
            raise ConfigurationError(f"Files cannot be uploaded directly: {why}.")

    # Beginning

    def begin(self, size: int, *, single: bool | None = None, sha256: bytes | None = None) -> Upload:
        self._check()
        if not 1 <= size <= self.settings.most_size:
            raise ValueError(f"a file of 1 to {self.settings.most_size} bytes can be uploaded (direct-upload-max-size)")
        if single and size > cutting.MAX_COPY:
            raise ValueError("more than 5 GiB go in parts only")
        if single is None:
            single = cutting.is_single(size)
        self._begun()
        id = secrets.token_hex(16)
        begun = self._store.now()
        if single:
            return Upload(id, size, 0, "", begun, sha256)
        provider = self._store.provider  # type: ignore[attr-defined]
        each = cutting.part_size(
            size,
            provider.value("most_parts") or cutting.MAX_PARTS,
            provider.value("smallest_part") or cutting.SMALLEST_PART,
        )
        return Upload(id, size, each, self._store.begin_upload(upload_key(id)), begun, sha256)

    def put_request(self, upload: Upload, *, seconds: int) -> Presigned:
        return self._store.presign_put(upload_key(upload.id), seconds=seconds, size=upload.size, sha256=upload.sha256)

    def post_request(self, upload: Upload, *, seconds: int) -> Presigned:
        return self._store.presign_post(upload_key(upload.id), seconds=seconds, least=upload.size, most=upload.size)

    def part_request(self, upload: Upload, number: int, *, seconds: int) -> Presigned:
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
        info = self._store.head(key)
        if not upload.multipart:
            return [] if info is None else [Arrived(1, info.size, info.etag)]
        if info is None:
            raise UploadWrong("nothing of this upload is left: begin it anew", gone=True)
        return [Arrived(number, upload.size_of(number), "") for number in range(1, upload.parts + 1)]

    def finish(self, upload: Upload) -> StagedObject:
        key = upload_key(upload.id)
        if upload.multipart:
            self._put_together(key, upload)
        info = self._store.head(key)
        if info is None:
            raise UploadWrong(
                "nothing was uploaded, or nothing of it is left", gone=True, incomplete=not upload.multipart
            )
        if info.size != upload.size:
            raise UploadWrong(f"{info.size} bytes were uploaded, and {upload.size} were announced")
        self._check_encrypted(info)
        staged = StagedObject(self._blobs, self._store, info)
        if upload.sha256 is not None and not staged.hashed_while_copied:
            staged.check(upload.sha256)
        staged.announced = upload.sha256
        return staged

    def _put_together(self, key: str, upload: Upload) -> None:
        try:
            listed = list(self._store.list_parts(key, upload.multipart))
        except ObjectMissing:
            return  # it was put together before, or another thread was faster; ``finish`` looks
        sizes = {number: size for number, size, _ in listed}
        wrong = [number for number in sizes if number > upload.parts or sizes[number] != upload.size_of(number)]
        missing = [number for number in range(1, upload.parts + 1) if number not in sizes]
        if wrong:
            raise UploadWrong(f"part {wrong[0]} is not the one that was announced", incomplete=True)
        if missing:
            raise UploadWrong(f"{len(missing)} parts are missing, the first is {missing[0]}", incomplete=True)
        try:
            self._store.finish_upload(key, upload.multipart, [(number, etag) for number, _, etag in listed])
        except ObjectMissing:
            pass

    def _check_encrypted(self, info: ObjectInfo) -> None:
        if self._instead and self.settings.staging == "sse-s3" and info.encrypted != "AES256":
            raise EncryptionNotHonoured("The object store did not encrypt what was uploaded (direct-upload-staging).")

    # Ending

    def drop(self, upload: Upload) -> None:
        key = upload_key(upload.id)
        if upload.multipart:
            self._store.abort_upload(key, upload.multipart)
        self._store.delete([key])

    def open_uploads(self) -> tuple[int, int]:
        objects = sum(is_upload_key(line.key) for line in self._store.list(UPLOADS))
        return objects, sum(1 for _ in self._store.list_uploads(UPLOADS))
