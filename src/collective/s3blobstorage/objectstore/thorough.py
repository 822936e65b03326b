"""What ``s3blobs check`` tries beyond the checks at open: every verb, with real bytes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from collective.s3blobstorage.errors import ConfigurationError, EncryptionNotHonoured
from collective.s3blobstorage.keys import ADDONS
from collective.s3blobstorage.objectstore.probe import Answer, ask
from collective.s3blobstorage.objectstore.scratch import BODY, FOLDER, Scratch
from collective.s3blobstorage.objectstore.store import S3ObjectStore
from collective.s3blobstorage.objectstore.visitor import fetch
from collective.s3blobstorage.providers import COLUMNS, shown

DEEPER = (
    "read",
    "range",
    "listing",
    "multipart",
    "copy",
    "presigned GET",
    "presigned PUT",
    "form upload",
    "delete",
    "provider",
)

Result = tuple[str, bool | None, str, str]

URL_SECONDS = 60  # how long the URLs of the checks are good for; the clocks may differ a little


def deeper(store: S3ObjectStore, scratch: Scratch, writable: bool, why: str) -> Iterator[Result]:
    """(name, ok, detail, mend) in the order of ``DEEPER``.

    ``scratch`` holds one object where it is ``writable``; ``why`` says why it is not.
    """
    checks = _Deeper(store, scratch)
    if writable:
        yield checks.read()
        yield checks.range()
        yield checks.listing()
        yield checks.multipart()
        yield checks.copy()
        yield checks.presigned_get()
        yield checks.presigned_put()
        yield checks.form_upload()
        yield checks.delete()
    else:
        yield from checks.reading_only(why)
    yield checks.provider()


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

    def _allow_read(self) -> str:
        also = ", and kms:Decrypt on the key of <sse-kms>" if self.connection.encryption.name == "sse-kms" else ""
        return f"s3-access-key: let its policy allow s3:GetObject{also}"

    def read(self) -> Result:
        answer, data = self._get()
        if not answer.ok:
            return _refused("read", answer, self._allow_read())
        try:
            self.connection.encryption.check_read(self.scratch.key(), answer.response)
        except EncryptionNotHonoured:
            mend = "s3-sse-customer-key, <sse-c>: remove it"
            return "read", False, "the answer does not confirm the customer's key", mend
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
        try:
            url = self.store.presign_get(self.scratch.key(), seconds=URL_SECONDS).url
        except ConfigurationError:
            return "presigned GET", None, _OWN_KEYS, ""
        status, data, trouble = fetch(self.store.settings, "GET", url)
        if data == BODY:
            return "presigned GET", True, f"a signed URL of {self._public()} is good for a download", ""
        return _url_refused("presigned GET", status, trouble)

    def presigned_put(self) -> Result:
        try:
            put = self.store.presign_put(self.scratch.key("upload"), seconds=URL_SECONDS, size=len(BODY))
        except ConfigurationError:
            return "presigned PUT", None, _OWN_KEYS, ""
        status, _, trouble = fetch(self.store.settings, "PUT", put.url, BODY, put.headers)
        self.scratch.note("upload")
        answer, data = self._get("upload")
        if status == 200 and data == BODY:
            return "presigned PUT", True, f"a signed URL of {self._public()} is good for an upload", ""
        return _url_refused("presigned PUT", status, trouble)

    def _public(self) -> str:
        return self.store.settings.public_endpoint_url or self.store.endpoint_url

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

    def form_upload(self) -> Result:
        """POST of a form, whose signed policy can bound the size; ``presigned PUT`` cannot."""
        name = "form upload"
        size = len(BODY)
        try:
            post = self.store.presign_post(self.scratch.key("form"), seconds=URL_SECONDS, least=size, most=size)
        except ConfigurationError:
            return name, None, _OWN_KEYS, ""
        if self.store.provider.value("post_policies") is False:
            return name, None, f"{self.store.provider.title} has none; direct uploads use presigned PUT", ""
        body, kind = _form({**post.fields, "file": BODY})
        status, _, _ = fetch(self.store.settings, "POST", post.url, body, {"Content-Type": kind})
        self.scratch.note("form")
        stored = self._get("form")[1] == BODY if 200 <= status < 300 else False
        self.store.measured(post_policies=stored)
        if stored:
            return name, True, "a form with a signed policy is good for an upload", ""
        return name, None, f"answered {status}; direct uploads use presigned PUT", ""

    def provider(self) -> Result:
        """What is known of the store, measured things first of all."""
        row = self.store.provider
        said = [f"{label}: {shown(row.value(column))}" for column, label in COLUMNS.items() if getattr(row, column)]
        if not said:
            return "provider", None, f"{row.title}, of which nothing is known (s3-provider)", ""
        return "provider", True, f"{row.title}; " + "; ".join(said), ""

    def reading_only(self, why: str) -> Iterator[Result]:
        answer = ask(
            self.client.list_objects_v2, **self.connection.bucket(), Prefix=self.connection.full_key(""), MaxKeys=20
        )
        # Neither those of checks, which may go meanwhile, nor those of add-ons, which may have keys of their own.
        others = (self.connection.full_key(FOLDER), self.connection.full_key(ADDONS))
        listed = answer.response.get("Contents", ())
        found = [line["Key"] for line in listed if line["Size"] and not line["Key"].startswith(others)]
        if answer.ok and found:
            parameters = {**self.connection.bucket(), **self.connection.encryption.read_parameters(), "Key": found[0]}
            got, data = self._body(ask(self.client.get_object, **parameters, Range="bytes=0-0"))
            if got.ok:
                yield "read", True, "an object of the prefix can be read", ""
                yield "range", len(data) == 1, "one byte was asked for", "" if len(data) == 1 else _CHANGED
            else:
                yield _refused("read", got, self._allow_read())
                yield "range", None, "not tried, since read failed", ""
        else:
            yield "read", None, "not tried: the prefix holds no object", ""
            yield "range", None, "not tried: the prefix holds no object", ""
        if answer.ok:
            yield "listing", True, "the prefix can be listed", ""
        else:
            yield _refused("listing", answer, "s3-access-key: let its policy allow s3:ListBucket")
        for name in DEEPER[3:-1]:
            yield name, None, why, ""


def _form(fields: Mapping[str, str | bytes]) -> tuple[bytes, str]:
    """A multipart/form-data body (RFC 7578) and its type; the file must be the last field."""
    boundary = uuid.uuid4().hex
    lines: list[bytes] = []
    for name, value in fields.items():
        named = '; filename="file"' if isinstance(value, bytes) else ""
        lines += [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()]
        lines += [value if isinstance(value, bytes) else value.encode(), b"\r\n"]
    lines.append(f"--{boundary}--\r\n".encode())
    return b"".join(lines), f"multipart/form-data; boundary={boundary}"


_OWN_KEYS = "not with keys of your own: a browser must not have them"
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
