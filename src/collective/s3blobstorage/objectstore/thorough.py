"""What ``s3blobs check`` tries beyond the checks at open: every verb, with real bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from collective.s3blobstorage.errors import EncryptionNotHonoured
from collective.s3blobstorage.objectstore import client
from collective.s3blobstorage.objectstore.probe import Answer, ask
from collective.s3blobstorage.objectstore.scratch import BODY, FOLDER, Scratch
from collective.s3blobstorage.objectstore.store import S3ObjectStore

DEEPER = (
    "read",
    "range",
    "listing",
    "multipart",
    "copy",
    "presigned GET",
    "presigned PUT",
    "delete",
)

Result = tuple[str, bool | None, str, str]

URL_SECONDS = 60  # how long the URLs of the checks are good for; the clocks may differ a little


def deeper(store: S3ObjectStore, scratch: Scratch, writable: bool) -> Iterator[Result]:
    """(name, ok, detail, mend) in the order of ``DEEPER``. ``scratch`` holds one object where it is ``writable``."""
    checks = _Deeper(store, scratch)
    if writable:
        yield checks.read()
        yield checks.range()
        yield checks.listing()
        yield checks.multipart()
        yield checks.copy()
        yield checks.presigned_get()
        yield checks.presigned_put()
        yield checks.delete()
        return
    yield from checks.reading_only()


class _Deeper:
    def __init__(self, store: S3ObjectStore, scratch: Scratch) -> None:
        self.store = store
        self.scratch = scratch
        self.connection = store.connection
        self.client = self.connection.reader

    def _get(self, word: str = "", **more: Any) -> tuple[Answer, bytes]:
        parameters = {**self.connection.object(self.scratch.key(word)), **self.connection.encryption.read_parameters()}
        return self._body(ask(self.client.get_object, **parameters, **more))

    def _body(self, answer: Answer) -> tuple[Answer, bytes]:
        if not answer.ok:
            return answer, b""
        read = ask(lambda: {"data": answer.response["Body"].read()})
        return (answer, read.response["data"]) if read.ok else (read, b"")

    def read(self) -> Result:
        answer, data = self._get()
        if not answer.ok:
            return _refused("read", answer, "s3-access-key: let its policy allow s3:GetObject")
        try:
            self.connection.encryption.check_echo(answer.response)
        except EncryptionNotHonoured:
            return "read", False, "the answer does not confirm the customer's key", "s3-sse-customer-key: remove it"
        if data != BODY:
            return "read", False, "other bytes came back than were written", _CHANGED
        return "read", True, f"{len(data)} bytes as they were written", ""

    def range(self) -> Result:
        answer, data = self._get(Range="bytes=3-12")
        if not answer.ok:
            return _refused("range", answer, "s3-endpoint-url: what stands before the store must pass Range on")
        if answer.response["ResponseMetadata"]["HTTPStatusCode"] != 206 or data != BODY[3:13]:
            return (
                "range",
                False,
                "the object store ignores Range: a broken download starts from zero",
                "s3-endpoint-url: what stands before the store must pass Range on",
            )
        return "range", True, "ten bytes out of the middle", ""

    def listing(self) -> Result:
        prefix = self.connection.full_key(self.scratch.key())
        answer = ask(self.client.list_objects_v2, **self.connection.bucket(), Prefix=prefix)
        if not answer.ok:
            return _refused("listing", answer, "s3-access-key: let its policy allow s3:ListBucket")
        if prefix not in [line["Key"] for line in answer.response.get("Contents", ())]:
            return (
                "listing",
                False,
                "an object that was just written is not listed",
                "garbage collection needs a store whose listings are current; see s3-provider",
            )
        return "listing", True, "a new object is listed at once", ""

    def multipart(self) -> Result:
        allow = "s3-access-key: let its policy allow s3:PutObject and s3:AbortMultipartUpload"
        scratch, key = self.scratch, self.scratch.key("parts")
        encrypted = self.connection.encryption.part_parameters()
        created = ask(
            self.client.create_multipart_upload,
            **self.connection.object(key),
            **self.connection.encryption.write_parameters(),
        )
        if not created.ok:
            return _refused("multipart", created, allow)
        upload_id = created.response["UploadId"]
        scratch.began("parts", upload_id)
        named = {**self.connection.object(key), "UploadId": upload_id}
        part = ask(self.client.upload_part, **named, **encrypted, PartNumber=1, Body=BODY)
        if not part.ok:
            return _refused("multipart", part, allow)
        prefix = self.connection.full_key(key)
        listed = ask(self.client.list_multipart_uploads, **self.connection.bucket(), Prefix=prefix)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part.response["ETag"]}]}
        completed = ask(self.client.complete_multipart_upload, **named, **encrypted, MultipartUpload=parts)
        scratch.wrote("parts", completed)
        if not completed.ok:
            return _refused("multipart", completed, allow)
        scratch.ended(upload_id)
        answer, data = self._get("parts")
        if data != BODY:
            return "multipart", False, "what was put together from parts cannot be read back", _CHANGED
        if not listed.ok:
            return (
                "multipart",
                False,
                "unfinished uploads cannot be listed, so those that a crash leaves behind are not swept",
                "s3-access-key: let its policy allow s3:ListBucketMultipartUploads",
            )
        return "multipart", True, "an upload in parts is put together", ""

    def copy(self) -> Result:
        encryption = self.connection.encryption
        source = {"Bucket": self.store.settings.bucket, "Key": self.connection.full_key(self.scratch.key())}
        answer = ask(
            self.client.copy_object,
            **self.connection.object(self.scratch.key("copy")),
            **encryption.write_parameters(),
            **encryption.copy_source_parameters(),
            CopySource=source,
        )
        self.scratch.wrote("copy", answer)
        if encryption.name == "sse-c" and (answer.ok or answer.status == 501):
            self.store.measured(copies_encrypted=answer.ok)
        if answer.ok:
            return "copy", True, "copies inside the bucket move no bytes through this machine", ""
        if answer.status == 501:
            return "copy", True, "not inside the store for encrypted objects: downloaded and uploaded instead", ""
        return _refused("copy", answer, "s3-access-key: let its policy allow s3:GetObject and s3:PutObject")

    def presigned_get(self) -> Result:
        if self.connection.encryption.name == "sse-c":
            return "presigned GET", None, "not with s3-sse-customer-key: a browser must not have the key", ""
        url = self._url("get_object", self.scratch.key())
        status, data, trouble = self._fetch("GET", url)
        if data == BODY:
            return "presigned GET", True, f"a signed URL of {self._public()} is good for a download", ""
        return _url_refused("presigned GET", status, trouble)

    def presigned_put(self) -> Result:
        if self.connection.encryption.name == "sse-c":
            return "presigned PUT", None, "not with s3-sse-customer-key: a browser must not have the key", ""
        url = self._url("put_object", self.scratch.key("upload"))
        status, _, trouble = self._fetch("PUT", url, BODY)
        self.scratch.note("upload")
        answer, data = self._get("upload")
        if status == 200 and data == BODY:
            return "presigned PUT", True, f"a signed URL of {self._public()} is good for an upload", ""
        return _url_refused("presigned PUT", status, trouble)

    def _public(self) -> str:
        return self.store.settings.public_endpoint_url or self.store.endpoint_url

    def _url(self, operation: str, key: str) -> str:
        public = self.store.settings.public_endpoint_url
        settings = replace(self.store.settings, endpoint_url=public) if public else self.store.settings
        signer = client.client(client.session(settings), settings, reading=True)
        try:
            return signer.generate_presigned_url(
                operation, Params=self.connection.object(key), ExpiresIn=URL_SECONDS
            )
        finally:
            signer.close()

    def _fetch(self, method: str, url: str, data: bytes = b"") -> tuple[int, bytes, str]:
        """As a browser would: no credentials, only the URL. (status, body, kind of the error); 0 without an answer."""
        bundle = self.store.settings.ca_bundle
        timeouts = (self.store.settings.download_connect_timeout, self.store.settings.download_read_timeout)
        session = URLLib3Session(verify=str(bundle) if bundle else True, timeout=timeouts)
        try:
            answer = session.send(AWSRequest(method=method, url=url, data=data).prepare())
            return answer.status_code, answer.content, ""
        except BotoCoreError as error:
            return 0, b"", type(error).__name__  # its text has the URL and so the signature
        finally:
            session.close()

    def delete(self) -> Result:
        key = self.scratch.key("parts")
        listed = {"Objects": [{"Key": self.connection.full_key(key)}], "Quiet": True}
        answer = ask(self.client.delete_objects, **self.connection.bucket(), Delete=listed)
        errors = answer.response.get("Errors", ())
        if not answer.ok:
            return _refused("delete", answer, _ALLOW_DELETE)
        if errors:
            return "delete", False, f"the object store refuses to delete: {errors[0].get('Code')}", _ALLOW_DELETE
        left, _ = self._get("parts")
        if left.ok:
            return "delete", False, "a deleted object can still be read", _CHANGED
        return "delete", True, "deleted objects are gone", ""

    def reading_only(self) -> Iterator[Result]:
        answer = ask(
            self.client.list_objects_v2, **self.connection.bucket(), Prefix=self.connection.full_key(""), MaxKeys=1
        )
        found = [line["Key"] for line in answer.response.get("Contents", ()) if line["Size"]]
        if answer.ok and found:
            parameters = {**self.connection.bucket(), **self.connection.encryption.read_parameters(), "Key": found[0]}
            got, data = self._body(ask(self.client.get_object, **parameters, Range="bytes=0-0"))
            if got.ok:
                yield "read", True, "an object of the prefix can be read", ""
                yield "range", len(data) == 1, "one byte was asked for", "" if len(data) == 1 else _CHANGED
            else:
                yield _refused("read", got, "s3-access-key: let its policy allow s3:GetObject")
                yield "range", None, "not tried, since read failed", ""
        else:
            yield "read", None, "not tried: the prefix holds no object", ""
            yield "range", None, "not tried: the prefix holds no object", ""
        if answer.ok:
            yield "listing", True, "the prefix can be listed", ""
        else:
            yield _refused("listing", answer, "s3-access-key: let its policy allow s3:ListBucket")
        for name in DEEPER[3:]:
            yield name, None, "not tried: opened for reading only (read-only)", ""


_CHANGED = "s3-endpoint-url: something between here and the store changes or caches what passes"
_ALLOW_DELETE = (
    f"s3-access-key: let its policy allow s3:DeleteObject on {FOLDER}/* under s3-prefix (on blobs/ only the job that"
    " collects garbage needs it)"
)


def _refused(name: str, answer: Answer, mend: str) -> Result:
    assert answer.failure is not None
    if answer.transient:
        return name, False, f"{answer.failure.error}", "start the store or wait; s3-endpoint-url says which it is"
    return name, False, f"the object store refuses it: {answer.status} {answer.code}", mend


def _url_refused(name: str, status: int, trouble: str) -> Result:
    if status == 0:
        detail = f"the host of signed URLs cannot be reached ({trouble})"
        return name, False, detail, "s3-public-endpoint-url: correct it"
    return (
        name,
        False,
        f"a signed URL was answered {status}",
        "s3-public-endpoint-url: it must lead to the same store, with its Host header unchanged",
    )

