"""An S3 Inventory report in the place of a listing: a file that the store writes once a day.

As AWS documents it (Amazon S3 User Guide, "Locating your inventory list" and "Amazon S3 Inventory list")::

    {prefix}/{source bucket}/{configuration}/{YYYY-MM-DD}T{HH-MM}Z/manifest.json      what the report is made of
    {prefix}/{source bucket}/{configuration}/{YYYY-MM-DD}T{HH-MM}Z/manifest.checksum  the MD5 of that, when all is there
    {prefix}/{source bucket}/{configuration}/data/….csv.gz                            the rows, in no order

It is a snapshot of hours or days ago, and AWS says of it that what was written or deleted shortly before may be missing
or still there. So nothing may be concluded from it alone. Whoever uses it asks the store once more: garbage collection
before it deletes, fsck before it calls a blob missing; and migrate's upload asks whether the object is there.

What is checked before a row counts: the MD5 of the manifest, size and MD5 of each file, the bucket, the age, and that
every column is there. And the owner marker has to be among the rows: a report does not tell which prefix it is limited
to, so one of another prefix would look like an empty bucket.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO
from urllib.parse import unquote_plus

from collective.s3blobstorage.errors import Corrupt, InventoryError, ObjectMissing
from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.objectstore.interfaces import IObjectStore, Listed
from collective.s3blobstorage.objectstore.sortedlisting import SortedListing, Sorter, on_disk

MAX_AGE = 48 * 3600.0  # seconds: of a report a day the one before may still be the newest that is finished
_AHEAD = timedelta(minutes=20)  # that a report may seem to be of the future: clocks differ
_MANIFEST, _CHECKSUM = "manifest.json", "manifest.checksum"
_REPORT = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ")
_MOST = 64 << 20  # bytes of a manifest: 150 for each file, of which a hundred million objects have some hundred
_BLOCK = 1 << 20
_STEP = 1000  # rows between two calls of ``advance``
_LONGEST = 1 << 16  # characters of a row: a key has 1024 bytes, each three characters at most
_BATCH = 1 << 16  # rows of a Parquet file in memory
_NEEDED = {"key": "Key", "size": "Size", "lastmodifieddate": "LastModifiedDate", "etag": "ETag"}
_OF_VERSIONS = {"islatest": "IsLatest", "isdeletemarker": "IsDeleteMarker"}
_COLUMN = re.compile(r"(?:required|optional)\s+\w+\s+(\w+)")

Row = tuple[str, int, str, int, str]  # full key, size, ETag, seconds since 1970, storage class


class IPlace(Protocol):
    """Where reports lie."""

    def reports(self) -> list[str]:
        """The files of all reports, as ``2026-11-26T01-00Z/manifest.json``; without a folder where it is one report."""

    def read(self, name: str) -> bytes:
        """One of those, whole. Raises InventoryError where it is not there."""

    def fetch(self, key: str, target: BinaryIO) -> None:
        """A file of rows, by the key that the manifest has for it. Raises InventoryError where it is not there."""


class LocalFolder:
    """A copy on the local disk: of a configuration's folder, or of one report's with its files of rows beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._roots = (folder, folder.parent) if (folder / _MANIFEST).exists() else (folder,)

    def __str__(self) -> str:
        return str(self._folder)

    def reports(self) -> list[str]:
        try:
            if len(self._roots) > 1:
                return [name for name in (_MANIFEST, _CHECKSUM) if (self._folder / name).exists()]
            names = [path.name for path in self._folder.iterdir() if _REPORT.fullmatch(path.name)]
        except OSError as error:
            raise InventoryError(f"--inventory {self}: it cannot be read: {error.strerror}") from None
        files = (f"{name}/{file}" for name in names for file in (_MANIFEST, _CHECKSUM))
        return [file for file in files if (self._folder / file).exists()]

    def read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise InventoryError(f"--inventory {self}: {name} cannot be read: {error.strerror}") from None

    def fetch(self, key: str, target: BinaryIO) -> None:
        path = self._found(key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise InventoryError(f"--inventory {self}: {path.name} cannot be read: {error.strerror}") from None
        with source:
            shutil.copyfileobj(source, target, _BLOCK)

    def _found(self, key: str) -> Path:
        """A key begins with prefix, bucket and configuration, of which the copy may have none, some or all."""
        parts = key.split("/")
        if not {"", ".", ".."} & set(parts):  # a manifest names files below its folder, never others
            for start in range(len(parts)):
                for root in self._roots:
                    path = root.joinpath(*parts[start:])
                    if path.is_file():
                        return path
        raise _lacks(self, key)


class BucketFolder:
    """A configuration's folder, or a report's, in the bucket that gets the reports. ``store``: that bucket, without a
    prefix; ``folder``: with a slash at its end."""

    def __init__(self, store: IObjectStore, bucket: str, folder: str) -> None:
        self._store = store
        self._bucket = bucket
        self._folder = folder

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._folder}"

    def reports(self) -> list[str]:
        found = []
        for line in self._store.list(self._folder):
            name = line.key[len(self._folder) :]
            if name in (_MANIFEST, _CHECKSUM):
                found.append(name)
            elif _REPORT.fullmatch(name.partition("/")[0]):
                found.append(name)
            elif name > ":":  # behind all digits: ``data/`` may have many files
                break
        return found

    def read(self, name: str) -> bytes:
        try:
            return self._store.get_bytes(self._folder + name, limit=_MOST)
        except ObjectMissing:
            raise InventoryError(f"--inventory {self}: there is no {name}") from None

    def fetch(self, key: str, target: BinaryIO) -> None:
        try:
            self._store.get_file(key, target)
        except ObjectMissing:
            raise _lacks(self, key) from None


def _lacks(place: IPlace, key: str) -> InventoryError:
    return InventoryError(f"--inventory {place}: the report is not whole: its file {key} is not there")


@dataclass(frozen=True, slots=True)
class File:
    """A file of rows, as the manifest has it."""

    key: str
    size: int
    md5: str


@dataclass(frozen=True)
class Report:
    """One report whose manifest was checked. ``created``: when the store began to write it."""

    place: IPlace
    name: str
    created: datetime
    format: str
    columns: tuple[str, ...]  # in lower case, without underscores
    files: tuple[File, ...]


def open_report(place: IPlace, bucket: str, now: datetime, max_age: float = MAX_AGE) -> Report:
    """The newest finished report of the place. ``now``: the store's time; ``max_age``: in seconds.

    Raises InventoryError with one sentence: where there is none, it is too old, of another bucket, not in a format that
    can be read, lacks a column, or its manifest is damaged.
    """
    name = _newest(place)
    document = _manifest(place, name)
    try:
        source, format, schema = (str(document[field]) for field in ("sourceBucket", "fileFormat", "fileSchema"))
        created = datetime.fromtimestamp(int(document["creationTimestamp"]) / 1000, UTC)
        files = tuple(File(str(each["key"]), int(each["size"]), str(each["MD5checksum"])) for each in document["files"])
    except (KeyError, ValueError, TypeError, OverflowError):
        raise InventoryError(f"--inventory {place}: {name}{_MANIFEST} is not as AWS documents it") from None
    if source != bucket:
        raise InventoryError(
            f"--inventory {place}: it is of the bucket {source}, and bucket-name is {bucket}: give the folder of a"
            f" configuration of that bucket. Example: s3://reports/inventory/{bucket}/everything/"
        )
    _refuse_age(place, created, now, max_age)
    return Report(place, name, created, format, _columns(place, format, schema), files)


def _newest(place: IPlace) -> str:
    """Its folder with a slash, "" where the place is one."""
    files = set(place.reports())
    begun = {file.removesuffix(_MANIFEST) for file in files if file.endswith(_MANIFEST)}
    finished = {folder for folder in begun if folder + _CHECKSUM in files}
    if finished:
        return max(finished)
    if begun:
        raise InventoryError(
            f"--inventory {place}: its report is not finished, there is no {_CHECKSUM} yet: try again in an hour"
        )
    raise InventoryError(
        f"--inventory {place}: there is no report: give the folder of a configuration, below which there are folders"
        " such as 2026-11-26T01-00Z/. Example: s3://reports/inventory/my-bucket/everything/"
    )


def _manifest(place: IPlace, name: str) -> dict[str, Any]:
    data = place.read(name + _MANIFEST)
    if place.read(name + _CHECKSUM).decode("ascii", "replace").strip().lower() != _md5(data).hexdigest():
        raise InventoryError(f"--inventory {place}: {name}{_MANIFEST} is damaged: its MD5 is not that of {_CHECKSUM}")
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InventoryError(f"--inventory {place}: {name}{_MANIFEST} is not as AWS documents it")
    return document


def _refuse_age(place: IPlace, created: datetime, now: datetime, max_age: float) -> None:
    age = now - created
    if age < -_AHEAD:
        raise InventoryError(f"--inventory {place}: it says that it was made at {created:%Y-%m-%d %H:%M} UTC, later on")
    if age.total_seconds() > max_age:
        raise InventoryError(
            f"--inventory {place}: its newest finished report is of {created:%Y-%m-%d %H:%M} UTC,"
            f" {age.total_seconds() / 3600:.0f} h ago, and --inventory-max-age is {max_age / 3600:g} h: look whether"
            " the bucket still writes reports, or give more. Example: --inventory-max-age 8d"
        )


def _columns(place: IPlace, format: str, schema: str) -> tuple[str, ...]:
    kind = format.upper()
    if kind == "CSV":
        named = schema.split(",")
    elif kind == "PARQUET":
        named = _COLUMN.findall(schema)
    else:
        raise InventoryError(
            f"--inventory {place}: it is in the format {format}, which is not read here: choose CSV or Apache Parquet"
            " in the inventory configuration"
        )
    columns = tuple(name.strip().lower().replace("_", "") for name in named)
    needed = _NEEDED | (_OF_VERSIONS if "versionid" in columns else {})
    lacking = [name for column, name in needed.items() if column not in columns]
    if lacking:
        raise InventoryError(
            f"--inventory {place}: its rows have no {', '.join(lacking)}: choose Size, Last modified and ETag among the"
            " additional metadata fields of the inventory configuration"
        )
    return columns


class InventoryListing:
    """A report as a listing: ``list`` as ``IObjectStore.list``, of what was there at ``created``, from the local disk.

    Any thread. ``between``: see ``read_report``. ``count``: objects below the prefix.
    """

    def __init__(self, rows: SortedListing, created: datetime) -> None:
        self._rows = rows
        self.created = created
        self.count = rows.count

    def list(self, prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        return self._rows.list(prefix, start_after=start_after)

    def close(self) -> None:
        self._rows.close()

    def __enter__(self) -> InventoryListing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_report(
    report: Report,
    prefix: str,
    advance: Callable[[int], Any] = lambda count: None,
    *,
    between: tuple[str, str] | None = None,
    sorter: Sorter | None = None,
) -> InventoryListing:
    """Read every row, and keep those below the store's ``prefix`` (without a slash at its end), sorted, on the disk.

    ``between``: only keys from the one to the other, relative to the prefix: a part of the work needs a part of the
    disk. ``advance(rows)`` is called with increments, and may raise to end it. In the thread of the caller; the caller
    closes the listing. Raises InventoryError where a file is missing, not whole, damaged or not what the manifest says,
    and where the owner marker is not among the rows; StagingError where the disk does not take them.
    """
    begin = f"{prefix}/" if prefix else ""
    length, covered = len(begin), False
    first, last = between or ("", "")
    seen = 0
    sorter = sorter or Sorter()
    try:
        for file in report.files:
            for key, size, etag, modified, storage in _rows(report, file):
                seen += 1
                if seen % _STEP == 0:
                    advance(_STEP)
                if not key.startswith(begin):
                    continue
                key = key[length:]
                covered = covered or key == MARKER
                if between is None or first <= key <= last:
                    sorter.add(key, size, etag, modified, storage)
        if not covered:
            raise InventoryError(
                f"--inventory {report.place}: it does not have {begin}{MARKER}, which every prefix has: it is of"
                f" another prefix, or older than this one. Set the inventory's prefix to {begin or 'nothing'!r}, and"
                " take the next report"
            )
        return InventoryListing(sorter.listing(), report.created)
    finally:
        sorter.close()


def _rows(report: Report, file: File) -> Iterator[Row]:
    """What is there of one file: no older version and no delete marker."""
    with tempfile.TemporaryFile(prefix="s3blobs-inventory-") as local:
        _fetched(report, file, local)
        with _damage(report, file):
            yield from (_of_csv if report.format.upper() == "CSV" else _of_parquet)(report, file, local)


def _fetched(report: Report, file: File, local: BinaryIO) -> None:
    """All of it on the disk before a row counts: of what is not whole, nothing does."""
    try:
        with on_disk():
            report.place.fetch(file.key, local)
            local.flush()
    except Corrupt:
        raise _damaged(report, file, "it cannot be read as it was stored") from None
    size = local.seek(0, 2)
    if size != file.size:
        raise _damaged(report, file, f"it has {size} bytes, and the manifest says {file.size}")
    local.seek(0)
    digest = _md5()
    while block := local.read(_BLOCK):
        digest.update(block)
    if digest.hexdigest() != file.md5.lower():
        raise _damaged(report, file, "its MD5 is not that of the manifest")
    local.seek(0)


def _of_csv(report: Report, file: File, local: BinaryIO) -> Iterator[Row]:
    columns = report.columns
    width = len(columns)
    key, size, modified, etag = (columns.index(name) for name in ("key", "size", "lastmodifieddate", "etag"))
    storage, latest, marker = (
        columns.index(name) if name in columns else -1 for name in ("storageclass", "islatest", "isdeletemarker")
    )
    with gzip.open(local, "rt", encoding="utf-8", newline="") as text:
        for row in csv.reader(_lines(report, file, text), strict=True):
            if len(row) != width:
                raise _damaged(report, file, f"a row has {len(row)} columns, and the manifest says {width}")
            if (latest >= 0 and row[latest].lower() != "true") or (marker >= 0 and row[marker].lower() == "true"):
                continue
            name = row[key]
            yield (
                # A space is %20 or +, and a plus sign always %2B.
                unquote_plus(name, errors="strict") if "%" in name or "+" in name else name,
                int(row[size]),
                row[etag].strip('"'),
                int(datetime.fromisoformat(row[modified]).timestamp()),
                row[storage] if storage >= 0 else "",
            )


def _lines(report: Report, file: File, text: TextIO) -> Iterator[str]:
    """One by one, none longer than a row can be: of zeros a few kilobytes of a gzip file make gigabytes."""
    while line := text.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise _damaged(report, file, f"a row has more than {_LONGEST} characters")
        yield line


def _of_parquet(report: Report, file: File, local: BinaryIO) -> Iterator[Row]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise InventoryError(
            f"--inventory {report.place}: it is in the format Parquet, which needs the extra `inventory`: pip install"
            " 'collective.s3blobstorage[inventory]', or choose CSV in the inventory configuration"
        ) from None
    try:
        opened = parquet.ParquetFile(local)
        names = {name.lower().replace("_", ""): name for name in opened.schema_arrow.names}
        wanted = [*_NEEDED, *(column for column in ("storageclass", *_OF_VERSIONS) if column in report.columns)]
        if lacking := [name for name in wanted if name not in names]:
            raise _damaged(report, file, f"it has no column {lacking[0]}")
        for batch in opened.iter_batches(_BATCH, columns=[names[name] for name in wanted]):
            values = {name: _column(arrow, batch.column(names[name]), name) for name in wanted}
            yield from _present(values)
    except (arrow.ArrowException, OSError) as error:  # which of them, pyarrow decides by what is not there
        raise _damaged(report, file, f"it is no Parquet file that can be read: {type(error).__name__}") from None


def _column(arrow: Any, column: Any, name: str) -> list[Any]:
    if name == "lastmodifieddate":
        if arrow.types.is_timestamp(column.type):
            column = column.cast(arrow.timestamp("ms"), safe=False)
        column = column.cast(arrow.int64())
    elif arrow.types.is_binary(column.type):
        column = column.cast(arrow.string())
    return column.to_pylist()


def _present(values: dict[str, list[Any]]) -> Iterator[Row]:
    nothing = [None] * len(values["key"])
    for key, size, modified, etag, storage, latest, marker in zip(
        *(values[name] for name in ("key", "size", "lastmodifieddate", "etag")),
        values.get("storageclass", nothing),
        values.get("islatest", nothing),
        values.get("isdeletemarker", nothing),
        strict=True,
    ):
        if ("islatest" in values and not latest) or marker:
            continue
        yield key, int(size), etag.strip('"'), modified // 1000, storage or ""


@contextmanager
def _damage(report: Report, file: File) -> Iterator[None]:
    """What Python says of rows that are none, in a file whose MD5 is right."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(report, file, "it is no whole gzip file") from None
    except (csv.Error, ValueError, TypeError, AttributeError, OverflowError):
        raise _damaged(report, file, "a row has something else than its columns say") from None


def _damaged(report: Report, file: File, why: str) -> InventoryError:
    return InventoryError(f"--inventory {report.place}: {file.key} is damaged: {why}. Take another report")


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)  # AWS's choice: it tells damage, not forgery


def location(where: str) -> tuple[str, str] | Path:
    """Bucket and folder (with a slash at its end) of ``s3://bucket/folder/``; else the path of a local folder.

    Raises InventoryError where it names no bucket or no folder.
    """
    if not where.startswith("s3://"):
        path = Path(where)
        return path.parent if path.name == _MANIFEST else path
    bucket, _, folder = where[len("s3://") :].partition("/")
    folder = folder.strip("/").removesuffix(_MANIFEST).strip("/")
    if not bucket or not folder:
        raise InventoryError(
            f"--inventory {where}: give the folder of a configuration too. Example:"
            " s3://reports/inventory/my-bucket/everything/"
        )
    return bucket, f"{folder}/"
