"""What every verb of the store needs: clients, the bucket's name, the prefix, encryption, patience."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from botocore.parsers import ResponseParserError

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.objectstore import idle
from collective.s3blobstorage.objectstore.circuit import Circuit
from collective.s3blobstorage.objectstore.clients import Clients
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Lock, ObjectInfo
from collective.s3blobstorage.objectstore.patience import Attempts, Patience
from collective.s3blobstorage.objectstore.retention import Honoured
from collective.s3blobstorage.objectstore.storetime import StoreTime
from collective.s3blobstorage.objectstore.traffic import Traffic
from collective.s3blobstorage.providers import Provider
from collective.s3blobstorage.settings import StoreSettings

T = TypeVar("T")

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Connection:
    """Shared by all threads; boto3 clients are thread-safe, everything else here is constant."""

    settings: StoreSettings
    encryption: IServerSideEncryption
    clients: Clients  # lent: given back when the store is closed
    reader: Any  # S3 client with the s3-download-* time-outs; each of the four counts its requests
    writer: Any  # S3 client with the usual time-outs
    signed_reader: Any  # SignedRequests: the same, for the requests that are made most
    signed_writer: Any
    clock: Clock
    circuit: Circuit
    provider: Provider
    time: StoreTime
    traffic: Traffic  # what is counted of its requests
    one_of_several: bool = False  # a refusal may mean that the object was encrypted in another way (see ``Ways``)
    etags_prove: bool = False  # whether a body needs no Content-MD5 (see ``S3ObjectStore.measured_etags``)
    honoured: Honoured = field(default_factory=Honoured)

    @property
    def reading(self) -> Patience:
        """Of a request that a visitor waits for."""
        patience = self.settings.outage_patience
        # A little above the circuit's, which begins with the first failure of any thread and so ends before ours.
        seconds = patience + 1.0 if patience else float("inf")
        return Patience(attempts=self.settings.download_max_attempts, seconds=seconds, rides_out=bool(patience))

    def full_key(self, key: str) -> str:
        return f"{self.settings.prefix}/{key}" if self.settings.prefix else key

    def relative_key(self, full_key: str) -> str:
        return full_key[len(self.settings.prefix) + 1 :] if self.settings.prefix else full_key

    def info_of(self, key: str, response: Mapping[str, Any], size: int | None = None) -> ObjectInfo:
        """As ``info_of``, with the metadata as they were given to be written."""
        info = info_of(key, response, size)
        metadata = self.encryption.read_metadata(key, info.metadata)
        return info if metadata is info.metadata else replace(info, metadata=metadata)

    def bucket(self) -> dict[str, Any]:
        """Parameters of a request about the bucket."""
        named: dict[str, Any] = {"Bucket": self.settings.bucket}
        if self.settings.expected_bucket_owner:
            named["ExpectedBucketOwner"] = self.settings.expected_bucket_owner
        return named

    def object(self, key: str) -> dict[str, Any]:
        """Parameters of a request about one object."""
        return {**self.bucket(), "Key": self.full_key(key)}

    def attempts(
        self,
        verb: str,
        key: str,
        patience: Patience,
        *,
        until: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Attempts:
        what = f"{verb} of {self.full_key(key)!r} in bucket {self.settings.bucket!r}"
        attempts = Attempts(
            patience,
            self.clock,
            what=what,
            circuit=self.circuit,
            until=until,
            cancelled=cancelled,
            on_silence=self.drop_idle,
        )
        attempts.refusal_expected = self.one_of_several
        return attempts

    def drop_idle(self) -> None:
        """One connection was silent for a whole time-out. So may be all that were open at that time (a firewall forgot
        them, an address moved), and each would cost somebody a time-out of his own: those that are idle are closed."""
        for client in {self.reader, self.writer}:
            idle.close(client)


def unquoted(etag: Any) -> str:
    return str(etag or "").strip('"')


def plain_md5(response: Mapping[str, Any]) -> str | None:
    """The ETag of a PUT's response where it is the MD5 of the bytes, else None.

    It is not with SSE-C and with SSE-KMS (Amazon S3 API reference, "Object", ETag).
    """
    if response.get("SSECustomerAlgorithm") or str(response.get("ServerSideEncryption") or "").startswith("aws:kms"):
        return None
    etag = unquoted(response.get("ETag"))
    return etag if _PLAIN_MD5.fullmatch(etag) else None


def info_of(key: str, response: Mapping[str, Any], size: int | None = None) -> ObjectInfo:
    """From a response of HeadObject or GetObject (of the whole object).

    ``size`` counts where the response has no ``Content-Length``, as behind a proxy that makes it chunked; without that
    the size from the metadata. An answer that tells no size at all counts as none of S3: it must not become 0.
    """
    metadata = {name.lower(): value for name, value in (response.get("Metadata") or {}).items()}
    length = response.get("ContentLength")
    if length is None:
        length = size if size is not None else recorded_size(metadata)
    if length is None:
        raise ResponseParserError("no Content-Length")
    return ObjectInfo(
        key=key,
        size=int(length),
        etag=unquoted(response.get("ETag")),
        metadata=metadata,
        last_modified=response.get("LastModified"),
        encrypted=_encrypted(response),
        storage_class=str(response.get("StorageClass") or ""),
        lock=lock_told(response),
    )


def lock_told(response: Mapping[str, Any]) -> Lock:
    """By a HEAD."""
    mode, until = response.get("ObjectLockMode"), response.get("ObjectLockRetainUntilDate")
    hold = response.get("ObjectLockLegalHoldStatus")
    return Lock(until if mode else None, str(mode or ""), hold == "ON") if mode or hold else _NO_LOCK


_NO_LOCK = Lock()


def _encrypted(response: Mapping[str, Any]) -> str:
    if response.get("SSECustomerAlgorithm"):
        return "sse-c"
    algorithm = str(response.get("ServerSideEncryption") or "")
    return f"{algorithm} {response['SSEKMSKeyId']}" if response.get("SSEKMSKeyId") else algorithm


def recorded_sha256(metadata: Mapping[str, str]) -> bytes | None:
    """The SHA-256 that was put into the object's metadata, where it is one."""
    try:
        digest = bytes.fromhex(metadata.get("sha256") or "")
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


def recorded_size(metadata: Mapping[str, str]) -> int | None:
    """The size that was put into the object's metadata, where it is one."""
    text = metadata.get("size") or ""
    return int(text) if text.isascii() and text.isdigit() else None
