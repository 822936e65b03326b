"""``s3blobs report``: what takes the room."""

from __future__ import annotations

import csv
import io
import os
from xml.etree import ElementTree

import plone_like
import pytest
from blob_sites import KINDS
from command_line import document, keys_of, one_line, s3blobs
from sites import commit_blobs
from test_cli_manifest import site  # noqa: F401
from test_cli_migrate import migrate

from collective.s3blobstorage.maintenance.findings import Count
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.manifest import Entry
from collective.s3blobstorage.maintenance.reports import counted, growth, largest


def report(conf, *arguments, store):
    result = s3blobs("--config", conf, "report", *arguments, env=keys_of(store))
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_largest_types_and_growth(site, settings, kind):  # noqa: F811
    conf, db = site(kind)
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds, many=30)
        commit_blobs(db, large=os.urandom(300_000))
        commit_blobs(db, large=os.urandom(200_000))
    history = kind in ("filestorage", "sqlite-hp", "zeo-client")
    rows = document(report(conf, "largest", "--top", "2", "--json", store=settings))["rows"]
    if history:
        assert [(row["bytes"], row["path"], row["history"]) for row in rows] == [
            (300_000, "/large", True),
            (200_000, "/large", False),
        ]
    else:
        assert (rows[0]["bytes"], rows[0]["history"], len(rows)) == (200_000, False, 2)
    told = document(report(conf, "types", "--json", store=settings))
    types = {row["type"]: row for row in told["rows"]}
    assert told["tid"] == db.lastTransaction().hex()
    assert types["Image"]["blobs"] == 2 and types["Image"]["bytes"] == len(b"picturescale")
    assert types["File"]["blobs"] >= 32  # those of the folder, the one that is kept, its version
    assert types["not found"]["bytes"] >= 200_000 + (300_000 if history else 0)
    [month] = document(report(conf, "growth", "--json", store=settings))["rows"]
    assert month["total_bytes"] == month["bytes"] == sum(row["bytes"] for row in types.values())
    assert month["blobs"] == sum(row["blobs"] for row in types.values())
    assert month["history_bytes"] == (300_000 if history else 0)


def test_of_migrated_blobs_the_listing_has_the_sizes(old_site, settings):
    made = old_site()
    db = made.db()
    commit_blobs(db, a=b"x" * 1000)
    db.close()
    conf = made.conf(settings, "owner old.example.org")
    assert migrate(conf, made, store=settings).returncode == 0
    [row] = document(report(conf, "largest", "--json", store=settings))["rows"]
    assert (row["bytes"], row["path"]) == (1000, "/a")


def test_forms(site, settings, tmp_path):  # noqa: F811
    conf, db = site()
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds)
    drawing = tmp_path / "types.svg"
    text = report(conf, "types", "--svg", drawing, store=settings).stdout
    assert text.splitlines()[0].split() == ["type", "blobs", "size", "of", "it", "history"] and "Image" in text
    svg = ElementTree.parse(drawing).getroot()
    drawn = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "Image" in drawn and "File" in drawn
    lengths = [float(each.get("width")) for each in svg.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 420
    rows = list(csv.DictReader(io.StringIO(report(conf, "largest", "--csv", store=settings).stdout)))
    assert rows[0]["path"].startswith("/Plone/") and int(rows[0]["bytes"]) >= int(rows[-1]["bytes"])
    shown = report(conf, "largest", "--top", "1", store=settings).stdout.splitlines()
    assert len(shown) == 2 and "/Plone/files/" in shown[1]
    assert "in all" in report(conf, "growth", store=settings).stdout


def test_an_empty_database_and_wrong_options(site, settings, tmp_path):  # noqa: F811
    conf, db = site()
    assert report(conf, "types", "--svg", tmp_path / "x.svg", store=settings).stdout == "no blobs\n"
    ElementTree.parse(tmp_path / "x.svg")
    for arguments, said in (
        (("types", "--csv", "--json"), "give one"),
        (("smallest",), "largest"),
        (("types", "--svg", "/no/such/x.svg"), "--svg"),
    ):
        result = s3blobs("--config", conf, "report", *arguments, env=keys_of(settings))
        assert result.returncode == 2 and said in result.stderr
    assert one_line(result)


def entry(oid, tid, size, key="x"):
    return Entry(KeptRevision(oid.to_bytes(8, "big"), tid, None, size), f"{key}{oid}")


def test_an_object_that_two_revisions_name_counts_once():
    """As an undo makes them: the later one counts, and is no history."""
    a, b, c = (bytes.fromhex(f"040d4acf813bf0c{n}") for n in "abc")
    entries = [entry(1, a, 10), entry(1, b, 20, "y"), entry(1, c, 10), entry(2, a, 5)]
    assert [(found.revision.tid, past) for found, past in counted(entries)] == [(b, True), (c, False), (a, False)]
    [row] = growth(entries)
    assert (row.all, row.history) == (Count(3, 35), Count(1, 20))
    assert [found.revision.size for found, _ in largest(entries, 2)] == [20, 10]


def test_months_are_sorted():
    later, earlier = bytes.fromhex("040d4acf813bf0cc"), bytes.fromhex("03f0000000000001")
    rows = growth([entry(1, later, 1), entry(2, earlier, 2), entry(3, later, 3)])
    assert [(row.name, row.all.blobs) for row in rows] == sorted((row.name, row.all.blobs) for row in rows)
    assert [row.all.blobs for row in rows] == [1, 2]
