"""Every tool that lists the bucket, over blobs that share their bytes: nothing missing, twice or left out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime

import pytest
from blob_sites import files_of
from checked_sites import Checked, Quiet
from command_line import document, keys_of, s3blobs
from converted_blobs import begin_sharing, below, bytes_of, converted, own, references
from rings import client_side
from sites import as_ours, bucket_keys, commit_blobs, raw_client
from test_cli_fsck import Command
from test_cli_migrate import migrate
from ZODB.utils import p64

from collective.s3blobstorage.keys import blob_key, condemned_key, object_key, read_key, reference_key, shared_name
from collective.s3blobstorage.maintenance import archived, purge
from collective.s3blobstorage.maintenance.bucket import BlobObject, Sharing, blob_objects
from collective.s3blobstorage.maintenance.findings import Count
from collective.s3blobstorage.maintenance.inventory import Inventory
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.manifest import Entry, added
from collective.s3blobstorage.maintenance.rotate import look
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.storage.owner import Marker, read_marker

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}
LOGO = b"logo" * 1000
NAME = shared_name(hashlib.sha256(LOGO).digest(), 0)
SHARED = Marker("www.example.org", False, deduplicated=True)


@pytest.fixture
def filled(make_site, settings):
    """Three equal blobs, of which one is history, and one that nothing equals; converted. The site is open."""
    site = make_site("filestorage", **OWNED)
    with Checked(site) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO, alone=b"alone" * 100)
        commit_blobs(checked.db, one=b"later")
        begin_sharing(settings)
        assert converted(checked.storage).converted.blobs == 3
        yield checked


@pytest.fixture
def command(filled, settings, tmp_path):
    filled.site.close_all()
    return Command(filled.site, settings, tmp_path)


def inventory(checked, spool):
    on = checked.storage.operated()
    found = Inventory(on.look, on.store, read_marker(on.store), spool, Quiet().stop)
    found.look(lambda count: None)
    return found


def test_a_revision_has_the_object_that_it_refers_to(settings):
    oids = [p64(number) for number in range(6)]
    names = [f"{number:032x}" for number in range(6)]
    other = shared_name(bytes(32), 2)
    with as_ours(settings) as store, Spool() as spool:
        store.put_bytes(blob_key(oids[0], names[0]), b"own")
        store.put_bytes(blob_key(oids[3], names[3]), b"has both")
        for number in (1, 3, 5):
            store.put_bytes(reference_key(oids[number], names[number], NAME), b"")
        store.put_bytes(reference_key(oids[2], names[2], other), b"")
        store.put_bytes(object_key(NAME), LOGO)
        store.put_bytes(object_key(shared_name(bytes(32), 1)), b"nobody's")
        for key in ("blobs/notes", "objects/notes", f"blobs/{oids[1].hex()}/{names[1]}.x"):
            store.put_bytes(key, b"?")
        told, passed = [], []
        sharing = Sharing(
            lambda name, line, references: told.append((name, line.size, references)),
            lambda *broken: told.append(broken),
        )

        def listed(marker, scope=Scope(), **more):  # noqa: B008
            return list(blob_objects(store, scope, spool, marker, **more))

        found = listed(SHARED, sharing=sharing, passed=lambda line: passed.append(line.key))
        shared = [BlobObject(oids[n], names[n], len(LOGO), object_key(NAME), shared=NAME) for n in (1, 3, 5)]
        both = BlobObject(oids[3], names[3], 8, blob_key(oids[3], names[3]))
        assert found == [BlobObject(oids[0], names[0], 3, blob_key(oids[0], names[0])), shared[0], both, *shared[1:]]
        assert sorted(told, key=str) == sorted(
            [(shared_name(bytes(32), 1), 8, 0), (NAME, len(LOGO), 3), (oids[2], names[2], other)], key=str
        )
        assert sorted(passed) == ["blobs/" + oids[1].hex() + f"/{names[1]}.x", "objects/notes"]
        assert listed(SHARED, Scope(oids[1], oids[2])) == [shared[0]]
        assert [each.oid for each in listed(Marker("x", False))] == [oids[0], oids[3]]
        with_old = Marker("x", True, deduplicated=True)
        store.put_bytes("blobs/2/3.blob", b"theirs")
        assert [each.oid for each in listed(with_old)] == [oids[0], oids[1], oids[2], oids[3], oids[3], oids[5]]


class ManyLines:
    """A listing of two hundred thousand references to a tenth as many objects."""

    class encryption:
        ring = None

    def list(self, prefix="", *, start_after="", page_size=1000):
        now = datetime.now(UTC)
        count = 200_000
        if prefix == "blobs/":
            for number in range(count):
                shared = shared_name(hashlib.sha256(b"%d" % (number % (count // 10))).digest(), 0)
                yield Listed(reference_key(p64(number), f"{number:032x}", shared), 0, "", now)
        else:
            digests = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(count // 10))
            for digest in digests:
                yield Listed(object_key(shared_name(digest, 0)), 1000, "", now)


def test_memory_does_not_grow_with_references():
    import tracemalloc

    with Spool() as spool:
        store = ManyLines()
        tracemalloc.start()
        count = sum(1 for _ in blob_objects(store, Scope(), spool, SHARED))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # The twenty thousand digests that the listing itself has are 2 MB of it.
    assert count == 200_000 and peak < 8 * 1024 * 1024


def test_comparing_and_exporting_bring_every_byte(command, filled, settings, tmp_path):
    target = tmp_path / "files"
    told = document(command.run("--to", target, "--json", verb="export"))
    assert (told["written"]["blobs"], told["problems"]) == (5, [])
    assert sorted(files_of(target).values()) == sorted([LOGO, LOGO, LOGO, b"later", b"alone" * 100])
    told = document(command.run("--from", target, "--compare", "--verify", "--json", verb="migrate"))
    assert (told["found"]["there"]["blobs"], told["verified"]["blobs"], told["problems"]) == (5, 5, [])
    assert told["extra"]["objects"] == {"blobs": 0, "bytes": 0}
    told = document(command.run("--from", target, "--json", verb="migrate"))
    assert told["uploaded"]["blobs"] == 0
    with as_ours(settings) as store:
        store.delete([object_key(NAME)])
    told = document(command.run("--from", target, "--compare", "--json", verb="migrate"))
    assert told["missing"] == 3 and told["found"]["wanted"]["blobs"] == 3
    told = document(command.run("--from", target, "--json", verb="migrate"))
    assert told["uploaded"]["blobs"] == 3 and document(command.run("--deep", "--json"))["findings"] == []


@pytest.fixture
def named(make_site, settings, tmp_path):
    """A site of ``dedup on``: its records name the object. Its bucket lost all blobs, a blob directory has them."""
    site = make_site("filestorage", **OWNED, dedup=True)
    with Checked(site) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO, alone=b"alone" * 100)
        site.close_all()
    command, target = Command(site, settings, tmp_path), tmp_path / "files"
    assert document(command.run("--to", target, "--json", verb="export"))["written"]["blobs"] == 4
    with as_ours(settings) as store:
        store.delete([*below(settings, "blobs/"), *below(settings, "objects/")])
    return command, target


@pytest.mark.parametrize("marked", [False, True])
def test_what_records_name_is_shared_again_where_it_was_not_given_up(named, settings, marked):
    command, target = named
    if marked:
        with as_ours(settings) as store:
            store.put_bytes(condemned_key(NAME), b"")
    told = document(command.run("--from", target, "--json", verb="migrate"))
    assert (told["uploaded"]["blobs"], told["problems"]) == (4, [])
    assert len(below(settings, "objects/")) == (1 if marked else 2)
    assert len(own(settings)) == (3 if marked else 0) and len(references(settings)) == (1 if marked else 4)
    told = document(command.run("--from", target, "--json", verb="migrate"))
    assert told["uploaded"]["blobs"] == 0 and told["found"]["there"]["blobs"] == 4
    assert document(command.run("--deep", "--json"))["findings"] == []


def test_a_mirror_shares_what_records_name_and_no_wrong_bytes(named, settings, s3):
    """From a blob directory as a source; in it one file rotted."""
    command, target = named
    path = min(target.rglob("*.blob"), key=lambda each: (each.stat().st_size != len(LOGO), str(each)))
    path.chmod(0o600)
    path.write_bytes(LOGO[::-1])
    command.conf(f"<blobdirsource old>\n  path {target}\n</blobdirsource>")
    told = document(command.run("--json", verb="mirror"))
    assert (told["copied"]["blobs"], told["different"]) == (3, 1)
    assert len(below(settings, "objects/")) == 2 and own(settings) == [] and len(references(settings)) == 3
    with as_ours(settings) as store:
        assert store.get_bytes(object_key(NAME)) == LOGO
    command.conf()
    told = document(command.run("--deep", "--json"))
    assert told["found"]["missing-reference"] == 1 and sum(told["found"].values()) == 1  # of the rotten one


def test_a_directory_is_purged_of_what_is_shared(command, settings, tmp_path, monkeypatch):
    target = tmp_path / "files"
    assert command.run("--to", target, verb="export").returncode == 0
    told = document(command.run("--from", target, "--purge-source", "--dry-run", "--json", verb="migrate"))
    assert told["refused"] is None and told["found"]["there"]["blobs"] == 5
    with as_ours(settings) as store:
        monkeypatch.setattr(purge, "ARCHIVES", ("STANDARD",))
        assert f"{len(own(settings)) + 1:,} blobs" in purge.unreadable(store)


def test_manifests_name_the_shared_object(command, settings, tmp_path):
    path = tmp_path / "m"
    assert command.run("--to", path, "--ask", verb="manifest").returncode == 0
    entries = [json.loads(line) for line in path.read_text().splitlines()][1:-1]
    assert [entry["key"] for entry in entries].count(object_key(NAME)) == 3
    assert {entry["sha256"] for entry in entries if entry["key"] == object_key(NAME)} == {NAME.partition(".")[0]}
    assert command.run("--verify", path, verb="manifest").returncode == 0
    # Without the database: by the manifest, and by the objects alone.
    for way in (("--manifest", path), ("--from-bucket",)):
        target = tmp_path / f"files{len(way)}"
        told = document(command.run("--to", target, *way, "--json", verb="export"))
        assert told["problems"] == []
        rest = [each.read_bytes() for each in (target / "without-tid").glob("*/*")]
        assert sorted([*files_of(target).values(), *rest]) == sorted([LOGO, LOGO, LOGO, b"later", b"alone" * 100])
    with as_ours(settings) as store:
        store.delete([object_key(NAME)])
    result = command.run("--verify", path, verb="manifest")
    assert result.returncode == 1 and result.stdout.count(", nor one that it shares") == 3


def test_of_a_name_with_a_tid_the_bucket_alone_tells_where_the_file_goes(old_site, settings, tmp_path):
    """Migrated blobs: their reference has the transaction in its name."""
    site = old_site()
    db = site.db()
    commit_blobs(db, one=LOGO, two=LOGO)
    db.close()
    files = site.files()
    conf = site.conf(settings, "owner old.example.org")
    assert migrate(conf, site, store=settings).returncode == 0
    begin_sharing(settings)
    told = document(s3blobs("--config", conf, "dedup", "--min-size", "1", "--json", env=keys_of(settings)))
    assert told["converted"]["blobs"] == 2
    target = tmp_path / "files"
    arguments = ("--config", conf, "export", "--to", target, "--from-bucket")
    assert s3blobs(*arguments, env=keys_of(settings)).returncode == 0
    assert files_of(target) == files
    # And back from there, as a site does that lost its bucket: into objects of their own.
    with as_ours(settings) as store:
        store.delete([*references(settings), object_key(NAME)])
    assert migrate(conf, site, store=settings).returncode == 0 and len(own(settings)) == 2


def test_entries_that_are_new_since_name_references_and_each_shared_object_once():
    def entry(oid, key=None, **more):
        revision = KeptRevision(p64(oid), p64(9), f"{oid:032x}", 4000)
        return Entry(revision, key or object_key(NAME), **more)

    old, other = object_key(shared_name(bytes(32), 0)), object_key(shared_name(b"\1" * 32, 0))
    earlier = [entry(1), entry(2, missing=True), entry(3, old), entry(9, other)]
    later = [entry(1), entry(2), entry(3, other), entry(4, old), entry(5, blob_key(p64(5), f"{5:032x}"))]
    count = Count()
    found = list(added(later, earlier, count))
    assert found == [
        (reference_key(p64(2), f"{2:032x}", NAME), 0),
        (reference_key(p64(3), f"{3:032x}", shared_name(b"\1" * 32, 0)), 0),
        (reference_key(p64(4), f"{4:032x}", shared_name(bytes(32), 0)), 0),
        (blob_key(p64(5), f"{5:032x}"), 4000),
    ]
    assert (count.blobs, count.bytes) == (4, 4000)
    assert list(added(later[:2], [], Count()))[-1] == (object_key(NAME), 4000)


def test_reports_count_bytes_once_and_say_what_sharing_saves(command):
    told = document(command.run("types", "--json", verb="report"))
    [row] = told["rows"]
    assert (row["blobs"], row["bytes"]) == (5, len(LOGO) + 5 + 500)
    assert (row["shared_blobs"], row["shared_bytes"]) == (2, 2 * len(LOGO))
    assert (row["history_blobs"], row["history_bytes"]) == (1, 0)  # that of a current one is counted
    result = command.run("types", verb="report")
    assert result.stdout.splitlines()[-1] == "sharing saves 7.8 KB: 2 blobs have the bytes of another one"
    assert [row["bytes"] for row in document(command.run("largest", "--json", verb="report"))["rows"]] == [4000, 500, 5]


def test_shared_bytes_are_counted_with_a_blob_that_has_them_now(filled):
    with Spool() as spool:
        entries = list(inventory(filled, spool).entries())
    shared = [entry for entry in entries if entry.key == object_key(NAME)]
    first = min(shared, key=lambda entry: (entry.revision.oid != read_key(filled.key("two"))[0], entry.revision.oid))
    assert sum(not entry.shared for entry in shared) == 1 and first.revision.size == len(LOGO)
    [counted] = [entry for entry in shared if not entry.shared]
    assert counted.revision.oid != read_key(filled.key("one"))[0]  # there it is history


@pytest.mark.parametrize("convert", [False, True])
def test_rotation_looks_at_objects_and_not_at_references(filled, settings, convert):
    sealed = dataclasses.replace(settings, encryption=client_side(one=b"1" * 32))
    with closing(open_store(sealed)) as store:
        report = look(store, convert, 2, Quiet())
        mode = report.count("converted" if convert else "left")
        assert mode.blobs == 3  # two objects of their own, and the shared one
        if convert:
            store.protect(object_key(NAME), convert=True)
            assert store.get_bytes(object_key(NAME)) == LOGO and store.stored(object_key(NAME)).current
            size = raw_client(settings).head_object(Bucket=settings.bucket, Key=_full(settings, object_key(NAME)))
            assert size["ContentLength"] > len(LOGO)
            with Spool() as spool:
                found = list(blob_objects(store, Scope(), spool, SHARED))
            assert {each.size_for({len(LOGO)}) for each in found if each.shared} == {len(LOGO)}


def _full(settings, key):
    return f"{settings.prefix}/{key}" if settings.prefix else key


def test_archived_ones_are_found_by_who_refers_to_them(filled, settings, monkeypatch):
    monkeypatch.setattr(archived, "ARCHIVES", ("STANDARD", ""))
    oid, other = (read_key(filled.key(name))[0] for name in ("two", "alone"))
    with as_ours(settings) as store:
        report = archived.look(store, None, Quiet())
        assert (report.archived.blobs, report.archived.bytes) == (3, len(LOGO) + 500 + 5)
        assert archived.look(store, (oid, oid), Quiet()).archived.bytes == len(LOGO)
        assert archived.look(store, (other, other), Quiet()).archived.bytes == 500


def test_what_readers_find_is_what_was_stored(filled, settings):
    """The keys of this module's other tests are those that readers try."""
    found = bytes_of(settings, filled.kept())
    assert sorted(found.values()) == sorted([LOGO, LOGO, LOGO, b"later", b"alone" * 100])
    assert below(settings, "objects/") == [object_key(NAME)] and len(bucket_keys(settings)) >= 6
