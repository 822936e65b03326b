"""Reports of S3 Inventory, as AWS documents them: which are read, how, and which are refused."""

from __future__ import annotations

import builtins
import gzip
import json
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inventory_reports import BUCKET, CURRENT, VERSIONS, Report, Row

from collective.s3blobstorage.errors import InventoryError, StagingError
from collective.s3blobstorage.keys import MARKER, blob_key
from collective.s3blobstorage.objectstore import sortedlisting
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.objectstore.inventory import LocalFolder, location, open_report, read_report
from collective.s3blobstorage.objectstore.sortedlisting import Sorter

CREATED = datetime(2026, 11, 26, 1, 0, tzinfo=UTC)
NOW = CREATED + timedelta(hours=20)
HOUR, DAY = 3600.0, 86400.0
OWNER = Row(f"site/{MARKER}", 90)
ROWS = [OWNER, *(Row(f"site/{blob_key(number.to_bytes(8), f'{number:032x}')}", number) for number in range(1, 401))]


def made(root, rows=ROWS, created=CREATED, **options):
    return Report(root, created, **options).write(rows)


def read(place, prefix="site", *, bucket=BUCKET, now=NOW, max_age=2 * DAY, **options):
    place = place if isinstance(place, LocalFolder) else LocalFolder(Path(place))
    return read_report(open_report(place, bucket, now, max_age), prefix, **options)


def listed(rows, prefix="site/"):
    found = [
        Listed(row.key[len(prefix) :], row.size, row.etag, row.modified, row.storage)
        for row in rows
        if row.key.startswith(prefix)
    ]
    return sorted(found, key=lambda line: line.key.encode())


def refused(match, place, **options):
    with pytest.raises(InventoryError, match=match) as raised:
        read(place, **options)
    assert "--inventory" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("format", ["CSV", "Parquet"])
@pytest.mark.parametrize("columns", [CURRENT, VERSIONS, ("Key", "ETag", "Size", "LastModifiedDate"), VERSIONS[::-1]])
def test_rows_come_sorted_and_below_the_prefix_only(tmp_path, format, columns):
    if format == "Parquet":
        pytest.importorskip("pyarrow")
    others = [Row("sitemap/blobs/0000000000000001/1"), Row("other"), Row(f"{MARKER}")]
    report = made(tmp_path, [*ROWS, *others], format=format, columns=columns)
    storage = "STANDARD" if "StorageClass" in columns else ""
    seen = []
    with read(report.config, advance=seen.append) as listing:
        assert list(listing.list()) == [replace(line, storage_class=storage) for line in listed(ROWS)]
        assert (listing.count, listing.created) == (len(ROWS), CREATED)
    assert sum(seen) == 0  # less than a thousand


def test_older_versions_and_delete_markers_are_not_there(tmp_path):
    gone = "site/blobs/0000000000000401/" + "a" * 32
    rows = [
        *ROWS,
        replace(ROWS[7], size=9, latest=False, version="older"),
        Row(gone, None, marker=True, version="gone"),
        Row(gone, 7, latest=False, version="before"),
    ]
    for number, format in enumerate(("CSV", "Parquet")):
        if format == "Parquet":
            pytest.importorskip("pyarrow")
        report = made(tmp_path / str(number), rows, columns=VERSIONS, format=format)
        with read(report.config) as listing:
            assert list(listing.list()) == listed(ROWS)


def test_keys_are_decoded_as_they_were_encoded(tmp_path):
    odd = ["a b", "a+b", "a%2Fb", 'q"uo,te', "ümlaut/ß", "tab\there", "line\nend", "nul\0", "\x01\x02", "日本", "z😀"]
    rows = [OWNER, *(Row(f"site/{key}") for key in odd)]
    report = made(tmp_path, rows)
    with read(report.config) as listing:
        assert [line.key for line in listing.list()] == sorted([*odd, MARKER], key=str.encode)


@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True),
    start=st.text(st.characters(exclude_categories=["Cs"])),
    prefix=st.text(st.characters(exclude_categories=["Cs"]), max_size=1),
)
def test_a_sorted_listing_lists_as_a_store_does(keys, start, prefix):
    """Whatever is in a key, by UTF-8 bytes, from any key on, and with runs of three lines."""
    sorter = Sorter(3, 2)
    for key in keys:
        sorter.add(key, 1, "e", 2)
    listing = sorter.listing()
    ordered = sorted(keys, key=str.encode)
    assert [line.key for line in listing.list()] == ordered and listing.count == len(keys)
    expected = [key for key in ordered if key.startswith(prefix) and (not start or key.encode() > start.encode())]
    assert [line.key for line in listing.list(prefix, start_after=start)] == expected
    listing.close()


def test_it_is_read_from_any_key_on_also_by_two_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sortedlisting, "_STEP", 7)
    monkeypatch.setattr(sortedlisting, "_BLOCK", 100)
    report = made(tmp_path)
    with read(report.config) as listing:
        keys = [line.key for line in listed(ROWS)]
        for number in (0, 1, 6, 7, 8, 13, 14, 200, 398, 399, 400):
            first, second = listing.list(start_after=keys[number]), listing.list("blobs/", start_after=keys[number])
            both = [line.key for pair in zip(first, second, strict=True) for line in pair]
            assert both[::2] == both[1::2] == keys[number + 1 :]
        assert [line.key for line in listing.list("blobs/0000000000000011")] == [ROWS[17].key[5:]]
        assert list(listing.list("blobz")) == list(listing.list(start_after="z")) == []


def test_a_part_of_the_oids_keeps_a_part_of_the_rows(tmp_path):
    report = made(tmp_path)
    between = "blobs/0000000000000010/", "blobs/000000000000001f/~"
    with read(report.config, between=between) as listing:
        assert [line.size for line in listing.list()] == list(range(0x10, 0x20)) and listing.count == 16


# Where it lies


def test_the_newest_finished_report_is_taken(tmp_path):
    made(tmp_path, [OWNER], CREATED - timedelta(days=1))
    report = made(tmp_path)
    unfinished = made(tmp_path, [OWNER], CREATED + timedelta(hours=12))
    (unfinished.folder / "manifest.checksum").unlink()
    (report.config / "hive").mkdir()
    with read(report.config) as listing:
        assert (listing.created, listing.count) == (CREATED, len(ROWS))
    refused("not finished, there is no manifest.checksum yet", unfinished.folder)


def test_a_copy_of_any_folder_does(tmp_path):
    report = made(tmp_path / "bucket")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (*report.folder.iterdir(), *(report.config / "data").iterdir()):
        (flat / path.name).write_bytes(path.read_bytes())
    for place in (report.config, report.folder, report.folder / "manifest.json", flat):
        with read(location(str(place))) as listing:
            assert listing.count == len(ROWS)


def test_where_it_is_named():
    assert location("s3://reports/inventory/b/c") == ("reports", "inventory/b/c/")
    assert location("s3://reports/b/c/2026-11-26T01-00Z/manifest.json") == ("reports", "b/c/2026-11-26T01-00Z/")
    assert location("/copies/c") == Path("/copies/c")
    for where in ("s3://reports", "s3://reports/", "s3:///folder/"):
        with pytest.raises(InventoryError, match="Example: s3://reports/inventory/my-bucket/everything/"):
            location(where)


def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path):
    report = made(tmp_path / "bucket")
    outside = tmp_path / "outside.csv.gz"
    data = report.data(0).read_bytes()
    outside.write_bytes(data)
    document = report.manifest()
    for key in ("../../../../outside.csv.gz", str(outside), "data/../../../../../outside.csv.gz"):
        document["files"][0]["key"] = key
        report.write_manifest(document)
        refused("is not there", report.config)


# What is refused


def test_a_stale_one(tmp_path):
    report = made(tmp_path)
    refused(r"of 2026-11-26 01:00 UTC, 49 h ago, and --inventory-max-age is 48 h", report.config, now=after(49))
    read(report.config, now=after(47.9)).close()
    read(report.config, now=after(190), max_age=8 * DAY).close()
    refused("later on", report.config, now=after(-1))
    read(report.config, now=after(-0.1)).close()


def after(hours):
    return CREATED + timedelta(hours=hours)


def test_one_of_another_bucket_or_prefix(tmp_path):
    report = made(tmp_path)
    refused("it is of the bucket site-blobs, and bucket-name is other", report.config, bucket="other")
    refused("does not have other/.s3blobs.json, which every prefix has", report.config, prefix="other")
    refused("does not have .s3blobs.json", report.config, prefix="")
    # Limited to the blobs: it says nothing of the rest.
    narrow = made(tmp_path / "narrow", ROWS[1:])
    refused("does not have site/.s3blobs.json", narrow.config)


@pytest.mark.parametrize("format", ["CSV", "Parquet"])
@pytest.mark.parametrize("lacking", ["Key", "Size", "LastModifiedDate", "ETag", "IsLatest", "IsDeleteMarker"])
def test_a_missing_column(tmp_path, format, lacking):
    if format == "Parquet":
        pytest.importorskip("pyarrow")
    columns = tuple(name for name in VERSIONS if name != lacking)
    report = made(tmp_path, columns=columns, format=format)
    refused(f"its rows have no {lacking}: choose ", report.config)


def test_a_format_that_is_not_read(tmp_path):
    report = made(tmp_path)
    report.write_manifest(report.manifest() | {"fileFormat": "ORC", "fileSchema": "struct<bucket:string,key:string>"})
    refused("in the format ORC, which is not read here: choose CSV or Apache Parquet", report.config)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    report = made(tmp_path)  # the rows are never read
    schema = "message s3.inventory { required binary key (UTF8); optional int64 size; optional int64"
    schema += " last_modified_date (TIMESTAMP_MILLIS); optional binary e_tag (UTF8); }"
    report.write_manifest(report.manifest() | {"fileFormat": "Parquet", "fileSchema": schema})
    there = builtins.__import__

    def without(name, *more):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return there(name, *more)

    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    refused(r"needs the extra `inventory`: pip install 'collective.s3blobstorage\[inventory\]'", report.config)


@pytest.mark.parametrize("format", ["CSV", "Parquet"])
def test_files_that_are_not_whole(tmp_path, format):
    if format == "Parquet":
        pytest.importorskip("pyarrow")
    report = made(tmp_path, format=format)
    path, data = report.data(1), report.data(1).read_bytes()
    path.write_bytes(data[:-1])
    refused(f"is damaged: it has {len(data) - 1} bytes, and the manifest says {len(data)}", report.config)
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    refused("is damaged: its MD5 is not that of the manifest", report.config)
    # Truncated before its MD5 was taken: nobody but the format knows.
    report.replaced(data[:-20], 1)
    refused("no whole gzip file" if format == "CSV" else "no Parquet file", report.config)
    path.unlink()
    refused("is not whole: its file .* is not there", report.config)


def test_every_truncated_csv_is_refused(tmp_path):
    report = made(tmp_path, [OWNER, *ROWS[1:20]], files=1)
    data = report.data().read_bytes()
    for length in range(len(data)):
        report.replaced(data[:length])
        refused("is damaged|does not have", report.config)


def test_every_truncated_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    report = made(tmp_path, ROWS[:150], format="Parquet", files=1)
    data = report.data().read_bytes()
    for length in range(0, len(data), 40):
        report.replaced(data[:length])
        refused("is damaged: it is no Parquet file", report.config)
    # Whole at its ends, and with a hole.
    report.replaced(data[:200] + bytes(len(data) // 3) + data[200 + len(data) // 3 :])
    refused("is damaged", report.config)


@pytest.mark.parametrize(
    "text",
    [
        '"site-blobs","site/a","5","2026-01-02T03:04:05.000Z","e"\n',
        '"site-blobs","site/a","5","2026-01-02T03:04:05.000Z","e","STANDARD","more"\n',
        '"site-blobs","site/a","","2026-01-02T03:04:05.000Z","e","STANDARD"\n',
        '"site-blobs","site/a","5","yesterday","e","STANDARD"\n',
        '"site-blobs","site/%ff","5","2026-01-02T03:04:05.000Z","e","STANDARD"\n',
        '"site-blobs","site/a","5","2026-01-02T03:04:05.000Z","e"x,"STANDARD"\n',
        '"site-blobs","site/a","5","2026-01-02T03:04:05.000Z","e","STANDARD',
        "\n",
    ],
)
def test_rows_that_are_none(tmp_path, text):
    report = made(tmp_path)
    report.replaced(gzip.compress(text.encode()))
    refused("is damaged: a row has", report.config)


def test_a_row_that_has_no_end_is_not_read_into_memory(tmp_path):
    report = made(tmp_path)
    report.replaced(gzip.compress(b'"site-blobs","site/' + b"a" * (64 << 20)))
    tracemalloc.start()
    try:
        refused("is damaged: a row has more than 65536 characters", report.config)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        lambda told: b"not JSON",
        lambda told: json.dumps([told]).encode(),
        *(
            lambda told, name=name: {key: value for key, value in told.items() if key != name}
            for name in ("sourceBucket", "creationTimestamp", "fileFormat", "fileSchema", "files")
        ),
        lambda told: told | {"creationTimestamp": "yesterday"},
        lambda told: told | {"creationTimestamp": "9" * 40},
        lambda told: told | {"files": [{"key": "a", "size": 1}]},
        lambda told: told | {"files": None},
    ],
)
def test_a_manifest_that_is_none(tmp_path, change):
    report = made(tmp_path)
    report.write_manifest(change(report.manifest()))
    refused("is not as AWS documents it", report.config)


def test_a_manifest_whose_checksum_is_another(tmp_path):
    report = made(tmp_path)
    path = report.folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"site-blobs", b"site-blobz"))
    refused("manifest.json is damaged: its MD5 is not that of manifest.checksum", report.config)


def test_no_report_at_all(tmp_path):
    refused("there is no report: give the folder of a configuration", tmp_path)
    refused("cannot be read: No such file", tmp_path / "nowhere")
    report = made(tmp_path)
    refused("there is no report", report.config.parent)


def test_a_key_twice(tmp_path):
    report = made(tmp_path, [*ROWS, replace(ROWS[5], size=99)])
    with pytest.raises(InventoryError, match="a key twice"):
        read(report.config)


# Whatever its size


def sorted_rows(count, **options):
    """A sorter that took so many rows, in an order that is none; and the most memory of it."""
    sorter = Sorter(**options)
    tracemalloc.start()
    try:
        for number in range(count):
            key = number * 7919 % count  # of a count that has no such divisor, each once
            sorter.add(blob_key(key.to_bytes(8), f"{key:032x}"), 1, "e" * 32, 2)
        listing = sorter.listing()
        assert sum(1 for _ in listing.list()) == listing.count == count
        listing.close()
        return sorter, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_neither_memory_nor_files_grow_with_the_rows():
    few, memory_of_few = sorted_rows(3_000, run=500, fan_in=4)
    many, memory_of_many = sorted_rows(30_000, run=500, fan_in=4)
    # 6 and 60 runs: of each level there are at most so many as are merged, when the next is written.
    assert few.most_files <= 2 * 4 and many.most_files <= 3 * 4
    assert memory_of_many < 1.5 * memory_of_few


def test_a_full_disk_is_told(monkeypatch, tmp_path):
    class Full:
        def __init__(self, *arguments, **options):
            pass

        def writelines(self, lines):
            raise OSError(28, "No space left on device")

        write = writelines

        def close(self):
            pass

    sorter = Sorter(2, 2)
    monkeypatch.setattr(sortedlisting.tempfile, "TemporaryFile", Full)
    sorter.add("a", 1, "e", 2)
    with pytest.raises(StagingError, match=r"\(TMPDIR\) does not take the rows of the inventory: No space left"):
        sorter.add("b", 1, "e", 2)


def test_nothing_stays_open_when_reading_ends_early(tmp_path):
    report = made(tmp_path, [OWNER, *(Row(f"site/x{number}") for number in range(2500))])

    class Ended(Exception):
        pass

    def stop(count):
        raise Ended

    before = open_files()
    with pytest.raises(Ended):
        read(report.config, advance=stop, sorter=Sorter(10, 3))
    assert open_files() == before


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))
