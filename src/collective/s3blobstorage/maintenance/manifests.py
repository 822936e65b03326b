"""The manifests of a bucket: ``manifests/{date}-{tid}``, each written once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigurationError, ObjectMissing, RecordError, Refused
from ..keys import MANIFESTS, is_manifest_key
from ..objectstore.interfaces import IObjectStore
from ..settings import Retention
from ..storage.owner import Marker
from .manifest import Header, Manifest

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Stored:
    """A line of the listing. ``size``: bytes as stored."""

    key: str
    size: int

    @property
    def made(self) -> datetime:
        return datetime.strptime(self.key[len(MANIFESTS) :].partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    @property
    def tid(self) -> bytes:
        return bytes.fromhex(self.key.rpartition("-")[2])


def key_of(header: Header) -> str:
    return f"{MANIFESTS}{header.made.astimezone(UTC):%Y%m%dT%H%M%SZ}-{header.tid.hex()}"


def listed(store: IObjectStore) -> Iterator[Stored]:
    """The oldest first."""
    return (Stored(line.key, line.size) for line in store.list(MANIFESTS) if is_manifest_key(line.key))


def refuse_without_lock(store: IObjectStore) -> None:
    """Raises ConfigurationError where nothing can be locked in the bucket. One request."""
    if store.locks_objects() is False:
        raise ConfigurationError(
            "--lock needs Object Lock, and the bucket has none: it is chosen when a bucket is made (example: aws s3api"
            " create-bucket --object-lock-enabled-for-bucket …). Name such a bucket by bucket-name, or leave out --lock"
        )


def put(
    store: IObjectStore, header: Header, path: Path, retention: Retention | None, progress: Callable[[int], None]
) -> tuple[str, datetime | None]:
    """Upload a manifest; its key, and until when it is locked.

    Encrypted as blobs are, whatever the mode. Raises as ``put_file``; PreconditionFailed where one of that second and
    transaction is there; Refused where it cannot be locked: then it is there, and can be deleted.
    """
    key = key_of(header)
    store.put_file(key, path, metadata={}, if_absent=True, progress=progress)
    if retention is None:
        return key, None
    until = (store.now() + timedelta(seconds=retention.seconds)).replace(microsecond=0)
    try:
        store.lock(key, retention.mode.upper(), until)
    except Refused as error:
        raise Refused(
            f"the manifest {key} is in the bucket, and is not locked: {error} --lock needs the right"
            " s3:PutObjectRetention on manifests/*, and Object Lock in the bucket."
        ) from None
    return key, until


@contextmanager
def opened(
    store: IObjectStore | None, name: str, advance: Callable[[int], None] = lambda count: None
) -> Iterator[Manifest]:
    """The manifest of that name: a file, a key such as ``manifests/20261127T080000Z-03f…``, or ``latest``, the newest
    of the bucket. Compared with its digest.

    From the bucket it is brought into the temporary folder (``TMPDIR``), where it has no name. Raises
    ConfigurationError where there is none, RecordError where it is damaged, and as ``get_file``.
    """
    if name != LATEST and not is_manifest_key(name):
        try:
            file: BinaryIO = open(name, "rb")  # noqa: SIM115 - what its reader raises is not about opening it
        except OSError as error:
            raise ConfigurationError(
                f"{name}: {error.strerror}; a manifest is a file, a key such as manifests/20261127T080000Z-"
                f"{'0' * 16} (s3blobs manifest --list), or {LATEST}"
            ) from None
        with file:
            yield Manifest.opened(file, name, advance)
        return
    if store is None:
        raise ConfigurationError(f"{name} is in the bucket, and none is open")
    key = name
    if name == LATEST:
        keys = [found.key for found in listed(store)]
        if not keys:
            raise ConfigurationError("the bucket has no manifest yet: write one with s3blobs manifest --in-bucket")
        key = keys[-1]
    with tempfile.TemporaryFile(prefix="s3blobs-manifest-") as file:
        try:
            store.get_file(key, file)
        except ObjectMissing:
            raise ConfigurationError(f"the bucket has no manifest {key}; s3blobs manifest --list has all") from None
        yield Manifest.opened(file, key, advance)


def refuse_other(manifest: Manifest, marker: Marker) -> None:
    """Raise RecordError where it is of another owner than the prefix. Where one of them has none nothing tells."""
    owner = manifest.header.owner
    if None not in (owner, marker.owner) and owner != marker.owner:
        raise RecordError(
            f"the manifest {manifest.name} is of the owner {owner}, and s3-prefix belongs to {marker.owner}: use it"
            " with the configuration of its own site, or correct s3-prefix"
        )


def descriptor_path(file: BinaryIO) -> Path:
    """By which a file without a name can be opened once more, while it is open here."""
    file.flush()
    return Path(f"/dev/fd/{file.fileno()}")
