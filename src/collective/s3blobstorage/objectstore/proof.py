"""What proves that the store received a body as it was sent."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import Corrupt
from collective.s3blobstorage.objectstore.connection import plain_md5
from collective.s3blobstorage.objectstore.translate import Unproven

log = logging.getLogger(__name__)

DIFFERENT = "The object store holds other bytes than were sent; they were deleted again."


@dataclass
class Proof:
    """Content-MD5, or, while ``by_etag``, the ETag alone. Belongs to one PUT or part and so to one thread.

    What its ETag does not prove, or what is refused without Content-MD5 (a bucket with Object Lock does so), is sent
    again with it, under the same key or number. No record names a key, and no upload is completed, before that.
    """

    md5: bytes
    by_etag: bool

    def parameters(self) -> dict[str, Any]:
        return {} if self.by_etag else {"ContentMD5": base64.b64encode(self.md5).decode()}

    def __enter__(self) -> None:
        """Around the request. Raises Unproven where a body without Content-MD5 is refused as a bad request."""

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self.by_etag and isinstance(error, ClientError):
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400:
                self._doubt("it was refused without Content-MD5")

    def check(self, response: Mapping[str, Any]) -> None:
        """Raises Unproven where it is to be sent again, Corrupt where its ETag differs all the same."""
        etag = plain_md5(response)
        if etag == self.md5.hex() or (etag is None and not self.by_etag):
            return
        if self.by_etag:
            self._doubt("the ETag is not the MD5 of what was sent", differs=etag is not None)
        log.error("the ETag of a part does not fit what was sent")
        raise Corrupt(DIFFERENT)

    def _doubt(self, why: str, *, differs: bool = False) -> NoReturn:
        self.by_etag = False
        raise Unproven(why, differs=differs) from None
