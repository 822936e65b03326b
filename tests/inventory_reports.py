"""Reports of S3 Inventory, made as AWS documents them: User Guide, "Amazon S3 Inventory list" and "Locating your
inventory list". What a test wants to be wrong with one is changed afterwards."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_plus

BUCKET = "site-blobs"
CONFIG = f"inventory/{BUCKET}/everything"
CURRENT = ("Bucket", "Key", "Size", "LastModifiedDate", "ETag", "StorageClass")
VERSIONS = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", *CURRENT[2:])
_PARQUET_TYPES = {
    "Bucket": "required binary bucket (UTF8)",
    "Key": "required binary key (UTF8)",
    "VersionId": "optional binary version_id (UTF8)",
    "IsLatest": "optional boolean is_latest",
    "IsDeleteMarker": "optional boolean is_delete_marker",
    "Size": "optional int64 size",
    "LastModifiedDate": "optional int64 last_modified_date (TIMESTAMP_MILLIS)",
    "ETag": "optional binary e_tag (UTF8)",
    "StorageClass": "optional binary storage_class (UTF8)",
}
_SNAKE = {name: told.split()[2] for name, told in _PARQUET_TYPES.items()}


@dataclass(frozen=True)
class Row:
    """One of a report. Keys are whole, with the prefix."""

    key: str
    size: int | None = 5
    modified: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    etag: str = "5d41402abc4b2a76b9719d911017c592"
    storage: str = "STANDARD"
    latest: bool = True
    marker: bool = False
    version: str = "null"


class Report:
    """A finished report below ``root``, which is the bucket that gets them, or a copy of it."""

    def __init__(self, root: Path, created: datetime, *, columns=CURRENT, format="CSV", bucket=BUCKET, files=3):
        self.created, self.columns, self.format, self.bucket, self.files = created, columns, format, bucket, files
        self.config = root / f"inventory/{bucket}/everything"
        self.folder = self.config / f"{created:%Y-%m-%dT%H-%MZ}"
        self.key = f"inventory/{bucket}/everything"

    def write(self, rows, *, seed=1) -> Report:
        """Rows in no order, over several files, as AWS does it."""
        rows = list(rows)
        random.Random(seed).shuffle(rows)
        (self.config / "data").mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True)
        told = []
        for number in range(self.files):
            data = self.encoded(rows[number :: self.files])
            extension = "csv.gz" if self.format == "CSV" else self.format.lower()
            name = f"data/{self.created:%Y%m%d%H%M}-{number}.{extension}"
            (self.config / name).write_bytes(data)
            md5 = hashlib.md5(data).hexdigest()
            told.append({"key": f"{self.key}/{name}", "size": len(data), "MD5checksum": md5})
        self.write_manifest(self.document(told))
        return self

    def encoded(self, rows) -> bytes:
        if self.format == "Parquet":
            return self._parquet(rows)
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([self._csv(row)[column] for column in self.columns] for row in rows)
        return gzip.compress(text.getvalue().encode())

    def _csv(self, row):
        truth = {True: "true", False: "false"}
        return {
            "Bucket": self.bucket,
            "Key": quote_plus(row.key, safe="/"),
            "VersionId": row.version,
            "IsLatest": truth[row.latest],
            "IsDeleteMarker": truth[row.marker],
            "Size": "" if row.size is None else str(row.size),
            "LastModifiedDate": f"{row.modified:%Y-%m-%dT%H:%M:%S}.000Z",
            "ETag": row.etag,
            "StorageClass": row.storage,
        }

    def _parquet(self, rows) -> bytes:
        import pyarrow
        from pyarrow import parquet

        values = {
            "Bucket": ([self.bucket] * len(rows), pyarrow.string()),
            "Key": ([row.key for row in rows], pyarrow.string()),
            "VersionId": ([row.version for row in rows], pyarrow.string()),
            "IsLatest": ([row.latest for row in rows], pyarrow.bool_()),
            "IsDeleteMarker": ([row.marker for row in rows], pyarrow.bool_()),
            "Size": ([row.size for row in rows], pyarrow.int64()),
            "LastModifiedDate": ([row.modified for row in rows], pyarrow.timestamp("ms", "UTC")),
            "ETag": ([row.etag for row in rows], pyarrow.string()),
            "StorageClass": ([row.storage for row in rows], pyarrow.string()),
        }
        table = pyarrow.table({_SNAKE[name]: pyarrow.array(*values[name]) for name in self.columns})
        file = io.BytesIO()
        parquet.write_table(table, file, row_group_size=100)
        return file.getvalue()

    def document(self, files) -> dict:
        schema = ", ".join(self.columns)
        if self.format == "Parquet":
            schema = "message s3.inventory { " + " ".join(f"{_PARQUET_TYPES[name]};" for name in self.columns) + " }"
        return {
            "sourceBucket": self.bucket,
            "destinationBucket": "arn:aws:s3:::reports",
            "version": "2016-11-30",
            "creationTimestamp": str(int(self.created.timestamp() * 1000)),
            "fileFormat": self.format,
            "fileSchema": schema,
            "files": files,
        }

    def manifest(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())

    def write_manifest(self, document) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document, indent=2).encode()
        (self.folder / "manifest.json").write_bytes(data)
        (self.folder / "manifest.checksum").write_text(hashlib.md5(data).hexdigest())

    def data(self, number=0) -> Path:
        return self.config / self.manifest()["files"][number]["key"][len(self.key) + 1 :]

    def replaced(self, data: bytes, number=0) -> None:
        """A file of rows, with the manifest that is right for it."""
        document = self.manifest()
        document["files"][number] |= {"size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}
        self.data(number).write_bytes(data)
        self.write_manifest(document)


def of_listing(lines, prefix: str) -> list[Row]:
    """What a report would have of a bucket whose listing, relative to the prefix, is this."""
    begin = f"{prefix}/" if prefix else ""
    return [
        Row(begin + line.key, line.size, line.last_modified, line.etag, line.storage_class or "STANDARD")
        for line in lines
    ]


__all__ = ["BUCKET", "CONFIG", "CURRENT", "VERSIONS", "Report", "Row", "of_listing"]
