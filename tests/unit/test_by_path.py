"""Files at the paths of their content, by a manifest."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.maintenance.blobdir import BlobDirectory
from collective.s3blobstorage.maintenance.by_path import place
from collective.s3blobstorage.maintenance.content import Content
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.manifest import Entry, Header, Manifest, write
from collective.s3blobstorage.maintenance.spool import Spool

MADE = datetime(2026, 11, 27, tzinfo=UTC)


def placed(target: Path, *rows: tuple[str | None, str, bool], only: int | None = None, again: int = 0):
    """``rows``: path, field, and whether that is past; each is a revision of a blob of its own whose file has its
    number in it. ``only``: how many files are in the directory. ``again``: of the first blob so many more revisions."""
    directory = BlobDirectory.made(target, dry_run=False)
    entries = []
    for oid, (path, field, past) in enumerate(rows, 1):
        for tid in range(1, 2 + (again if oid == 1 else 0)):
            revision = KeptRevision(oid.to_bytes(8), tid.to_bytes(8), f"{oid:032x}", 1, bytes(32))
            entries.append(Entry(revision, f"blobs/{oid:016x}/{oid:032x}", None, Content(path, "File", field, past)))
            if only is None or oid <= only:
                file = directory.file(revision.oid, revision.tid)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{oid}.{tid}")
    file = io.BytesIO()
    write(file, Header("owner", "main", bytes(8), MADE, "1"), entries)
    with Spool() as spool:
        told = place(Manifest.opened(file, "m"), target, directory, spool)
    found = {
        str(path.relative_to(target / "by-path")): path.read_text()
        for path in (target / "by-path").rglob("*")
        if path.is_file()
    }
    return told, found


def index(target: Path) -> list[dict]:
    return [json.loads(line) for line in (target / "by-path.ndjson").read_text().splitlines()]


def test_content_with_one_file_is_that_file(tmp_path):
    told, found = placed(tmp_path, ("/Plone/a.pdf", "file", False), ("/Plone/b/ü.png", "image", False))
    assert found == {"Plone/a.pdf": "1.1", "Plone/b/ü.png": "2.1"}
    assert (told.there.blobs, told.there.bytes, told.unnamed) == (2, 6, 0)
    assert index(tmp_path)[1] == {
        **{"path": "/Plone/b/ü.png", "type": "File", "field": "image", "file": "by-path/Plone/b/ü.png"},
        **{"key": f"blobs/{2:016x}/{2:032x}", "size": 1, "sha256": "00" * 32},
    }
    assert (tmp_path / "by-path.ndjson").stat().st_mode & 0o777 == 0o600


def test_content_with_files_below_it_or_several_is_a_folder(tmp_path):
    rows = [("/a", "image", False), ("/a-b", "file", False), ("/a/image", "file", False)]
    rows += [("/c", "one", False), ("/c", "two", False), ("/ab", "file", False)]
    _, found = placed(tmp_path, *rows)
    assert found == {"a/_image": "1.1", "a-b": "2.1", "a/image": "3.1", "c/_one": "4.1", "c/_two": "5.1", "ab": "6.1"}
    assert {line["file"] for line in index(tmp_path)} == {f"by-path/{name}" for name in found}


def test_the_last_revision_counts_and_what_nobody_has_now_does_not(tmp_path):
    rows = [("/a", "file", False), ("/a", "file", True), (None, "file", True), ("/b", "plone.scale", False)]
    _, found = placed(tmp_path, *rows, again=2)
    assert found == {"a": "1.3"}


def test_what_was_not_brought_is_left_out(tmp_path):
    told, found = placed(tmp_path, ("/a", "file", False), ("/b", "file", False), only=1)
    assert (set(found), told.there.blobs, len(index(tmp_path))) == ({"a"}, 1, 1)


@pytest.mark.parametrize(
    "path", ["", "a", "/", "/..", "/../../etc", "/a/./b", "/a//b", "/a\0b", f"/{'a' * 256}", "/\udc80"]
)
def test_no_path_leads_out_or_cannot_be_a_file(tmp_path, path):
    told, found = placed(tmp_path / "to", (path, "file", False))
    assert (told.unnamed, found) == (1, {})
    told, found = placed(tmp_path / "to", ("/a", "../../out", False), ("/b", "file", False))
    assert (told.unnamed, found) == (1, {"b": "2.1"}) and list(tmp_path.iterdir()) == [tmp_path / "to"]


def test_a_second_run_replaces_and_leaves_nothing_beside(tmp_path):
    placed(tmp_path, ("/a", "file", False))
    _, found = placed(tmp_path, ("/x", "file", False), ("/a", "file", False))
    assert found == {"x": "1.1", "a": "2.1"}
    assert placed(tmp_path, ("/x", "file", False), ("/a", "file", False))[1] == found
    assert sorted(path.name for path in tmp_path.iterdir() if "by-path" in path.name) == ["by-path", "by-path.ndjson"]


def test_a_folder_in_the_way_is_told(tmp_path):
    placed(tmp_path, ("/a/b", "file", False))
    with pytest.raises(ConfigurationError, match="/by-path/a: .*--by-path"):
        placed(tmp_path, ("/a", "file", False))
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".layout"], "nothing is left beside it"
