"""``s3blobs dedup``: equal blobs end with one object, every byte stays what it was, and the report is right."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from blob_sites import undo_last
from checked_sites import Checked, Quiet
from command_line import document, one_line
from converted_blobs import begin_sharing, below, bytes_of, converted, own, references
from inventory_reports import Report, of_listing
from locked_buckets import lockable
from rings import client_side
from servers import faults
from sites import as_ours, commit_blobs, raw_client, wait_until
from test_cli_fsck import Command

from collective.s3blobstorage.encryption.configured import StoreMode, configured
from collective.s3blobstorage.encryption.managed import SSES3
from collective.s3blobstorage.errors import ConfigurationError, Refused, UnsafeError
from collective.s3blobstorage.keys import (
    condemned_key,
    object_key,
    read_key,
    read_reference_key,
    reference_key,
    shared_name,
)
from collective.s3blobstorage.maintenance import converting, dedup
from collective.s3blobstorage.maintenance.comparing import Comparison, reader_of
from collective.s3blobstorage.maintenance.gc.lease import Taken
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.rotate import held
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.storage.owner import read_marker

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}
LOGO, VIDEO = b"logo" * 1000, b"video" * 20_000


def named(data: bytes, generation: int = 0) -> str:
    return shared_name(hashlib.sha256(data).digest(), generation)


@pytest.fixture
def site(make_site, settings):
    """Three logos, two videos in two revisions of one blob, and what nothing equals."""
    made = make_site("filestorage", **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO, alone=b"alone" * 900, film=VIDEO)
        commit_blobs(checked.db, film=b"another" * 10)
        commit_blobs(checked.db, film=VIDEO)
        begin_sharing(settings)
        made.close_all()
    with Checked(made) as checked:
        yield checked


def test_equal_blobs_end_with_one_object(site, settings):
    kept = site.kept()
    before = bytes_of(settings, kept)
    report = converted(site.storage)
    assert bytes_of(settings, kept) == before and None not in before.values()
    assert below(settings, "objects/") == sorted([object_key(named(LOGO)), object_key(named(VIDEO))])
    assert len(references(settings)) == 5 and len(own(settings)) == 2
    counts = [(count.blobs, count.bytes) for count in (report.equal, report.converted, report.made, report.single)]
    equal = 5, 3 * len(LOGO) + 2 * len(VIDEO)
    assert counts == [equal, equal, (2, len(LOGO) + len(VIDEO)), (2, 4500 + 70)]
    assert (report.saved, report.asking, report.failures.count) == (2 * len(LOGO) + len(VIDEO), 5, 0)
    with as_ours(settings) as store:
        info = store.head(object_key(named(LOGO)))
        assert info.metadata["sha256"] == hashlib.sha256(LOGO).hexdigest() and "oid" not in info.metadata
    again = converted(site.storage)
    assert (again.equal.blobs, again.shared.blobs, again.asking, again.saved) == (0, 5, 5, 0)
    assert site.fsck(deep=True) == {} and site.report.shared.references == 5


def test_a_dry_run_says_the_same_and_writes_nothing(site, settings, proxy):
    keys = below(settings, "")
    told = converted(site.storage, dry_run=True)
    assert below(settings, "") == keys
    done = converted(site.storage)
    told_of, done_of = (dedup.document(report, listed=10) for report in (told, done))
    assert told_of == done_of and told_of["saved_bytes"] > 0


def test_requests_are_a_few_for_each_content_and_two_for_each_blob(make_site, settings, proxy):
    """The object is looked at and its reference put, for each; all else is once for a hundred. A copy looks, too."""
    made = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, **{f"blob{number}": LOGO for number in range(90)})
        begin_sharing(settings)
        proxy.reset()
        report = converted(checked.storage)
    assert report.converted.blobs == 90
    counts = proxy.counts("/blobs/")
    assert (counts["PutObject"], counts["HeadObject"], counts["GetObject"]) == (90, 90 + 1, 1)
    assert sum("delete" in line.split()[1].partition("?")[2] for line in proxy.lines) == 1
    assert sum("condemned" in line for line in proxy.lines) == 2
    assert proxy.counts("/objects/")["CopyObject"] + proxy.counts("/objects/")["PutObject"] == 1


def test_one_that_equals_a_shared_object_is_enough(site, settings):
    converted(site.storage)
    commit_blobs(site.db, four=LOGO)
    report = converted(site.storage)
    assert (report.converted.blobs, report.made.blobs, report.saved) == (1, 0, len(LOGO))
    assert len(references(settings)) == 6


def test_sizes_and_oids_bound_it(site, settings):
    report = converted(site.storage, least=len(LOGO) + 1)
    assert report.converted.blobs == 2 and report.small.blobs == 4 and len(own(settings)) == 5
    report = converted(site.storage, most=len(LOGO) - 1)
    assert (report.converted.blobs, report.large.blobs) == (0, 4)
    oid = read_key(site.key("one"))[0]
    report = converted(site.storage, scope=Scope(oid, oid))
    assert report.converted.blobs == 0 and report.single.blobs == 1  # no other one of that range has its bytes


def test_without_a_digest_it_is_read_only_when_asked(old_site, settings, tmp_path):
    """Blobs that another tool put there: neither record nor metadata have a SHA-256."""
    site = old_site()
    db = site.db()
    commit_blobs(db, one=LOGO, two=LOGO, same_size=LOGO[::-1], alone=b"alone")
    kept = site.files()
    db.close()
    client = raw_client(settings)
    for (oid, tid), data in kept.items():
        key = f"{settings.prefix}/blobs/{oid.hex()}/{tid.hex()}".lstrip("/")
        client.put_object(Bucket=settings.bucket, Key=key, Body=data)
    command = Command.__new__(Command)
    command.site, command.store, command.folder = site, settings, tmp_path
    (tmp_path / "zope.conf").write_text(site.conf(settings, "owner www.example.org").read_text())
    assert command.run("--repair", "--json").returncode in (0, 1)  # the first writable open
    begin_sharing(settings)
    told = document(command.run("--min-size", "1", "--json", verb="dedup"))
    assert (told["unhashed"]["blobs"], told["single"]["blobs"], told["converted"]["blobs"]) == (3, 1, 0)
    told = document(command.run("--min-size", "1", "--hash", "--json", verb="dedup"))
    assert (told["unhashed"]["blobs"], told["single"]["blobs"], told["converted"]["blobs"]) == (0, 2, 2)
    assert len(references(settings)) == 2 and len(own(settings)) == 2
    result = command.run("--deep", "--json")
    assert result.returncode == 0, result.stdout


def test_a_generation_that_was_given_up_is_not_begun_again(site, settings):
    with as_ours(settings) as store:
        store.put_bytes(condemned_key(named(LOGO)), b"")
        store.put_bytes(condemned_key(named(LOGO, 1)), b"")
    before = bytes_of(settings, site.kept())
    converted(site.storage)
    assert object_key(named(LOGO, 2)) in below(settings, "objects/") and bytes_of(settings, site.kept()) == before
    assert {key[-2:] for key in references(settings) if hashlib.sha256(LOGO).hexdigest() in key} == {".2"}
    assert site.fsck(deep=True) == {}


def test_a_mark_that_comes_between_look_and_reference_is_seen(site, settings, monkeypatch):
    """gc gave it up after the first look: the look that counts is the one after the references."""
    real, looks = converting.marked_generations, []

    def marked(store, sha256):
        found = real(store, sha256)
        looks.append(found)
        if len(looks) == 1:
            store.put_bytes(condemned_key(shared_name(sha256, 0)), b"")
        return found

    monkeypatch.setattr(converting, "marked_generations", marked)
    before = bytes_of(settings, site.kept())
    converted(site.storage, concurrency=1)
    assert bytes_of(settings, site.kept()) == before
    assert {key.rpartition(".")[2] for key in references(settings)} == {"0", "1"}  # each content one of them
    assert sorted(key.rpartition(".")[2] for key in below(settings, "objects/")) == ["0", "1"]
    assert site.fsck(deep=True) == {} and site.report.shared.broken == 0


def test_damaged_bytes_are_not_spread(site, settings):
    """The first one was damaged: it stays as it is, and another one becomes the shared object."""
    keys = sorted(site.key(name) for name in ("one", "two", "three"))
    site.bucket.damage(keys[0], "wrong-bytes")
    report = converted(site.storage)
    with as_ours(settings) as store:
        assert store.get_bytes(object_key(named(LOGO))) == LOGO
    assert report.failures.by_kind == {"Corrupt": 1} and report.failures.first[0]["key"] == keys[0]
    assert keys[0] in own(settings) and not {*keys[1:]} & {*own(settings)}
    assert site.fsck(deep=True) == {"wrong-bytes": 1}


def test_metadata_that_contradict_the_record_leave_it_alone(site, settings):
    key = site.key("one")
    data, metadata = site.bucket.get(key)
    site.bucket.put(key, data, {**metadata, "sha256": "ab" * 32})
    report = converted(site.storage)
    assert key in own(settings) and report.failures.first[0]["key"] == key


def test_a_shared_object_with_other_bytes_takes_nothing(site, settings):
    with as_ours(settings) as store:
        store.put_bytes(object_key(named(LOGO)), LOGO[:-1])
    before = bytes_of(settings, site.kept())
    report = converted(site.storage)
    assert report.failures.by_kind == {"Corrupt": 3} and len(own(settings)) == 5
    assert bytes_of(settings, site.kept()) == before


def test_a_shared_object_of_which_nothing_tells_the_bytes_is_read(site, settings):
    key = object_key(named(LOGO))
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=LOGO[::-1])  # not even size and hash
    before = bytes_of(settings, site.kept())
    assert converted(site.storage).failures.by_kind == {"Corrupt": 3}
    assert bytes_of(settings, site.kept()) == before
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=LOGO)
    assert converted(site.storage).converted.blobs == 3
    assert bytes_of(settings, site.kept()) == before


def test_what_is_encrypted_shares_nothing_that_is_in_clear(make_site, settings, pytestconfig):
    if pytestconfig.getoption("--s3") != "ministack":
        pytest.skip("Ceph ignores AES256")
    sse = configured([StoreMode("sse-s3", lambda required: SSES3(required=required))], required=True)
    made = make_site("filestorage", store=dataclasses.replace(settings, encryption=sse), **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO)
        begin_sharing(settings)
        with as_ours(settings) as store:
            store.put_bytes(object_key(named(LOGO)), LOGO)
        report = converted(checked.storage)
        assert (report.converted.blobs, report.made.blobs, report.failures.count) == (3, 1, 0)
        assert {shared for _, _, shared in map(read_reference_key, references(settings))} == {named(LOGO, 1)}
        head = raw_client(settings).head_object(Bucket=settings.bucket, Key=object_key(named(LOGO, 1)))
        assert head["ServerSideEncryption"] == "AES256"


def test_where_nothing_may_be_deleted_nothing_is_lost(site, settings, proxy):
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site.site.close_all()
    made = dataclasses.replace(site.site.settings, store=through)
    site.site.settings = made
    with Checked(site.site) as checked:
        before = bytes_of(settings, checked.kept())
        proxy.fail(faults.answer(403, "AccessDenied"), method="POST", target="delete", times=100)
        report = converted(checked.storage)
        assert report.converted.blobs == 0 and report.failures.count == 5
        assert bytes_of(settings, checked.kept()) == before
        proxy.forgive()
        assert converted(checked.storage).converted.blobs == 5
        assert bytes_of(settings, checked.kept()) == before


def test_a_policy_that_refuses_everything_ends_it(make_site, settings, proxy, monkeypatch):
    """Else each content would be stored once more, and nothing be saved."""
    monkeypatch.setattr(dedup, "_REFUSED_ALL", 4)
    monkeypatch.setattr(dedup, "_BATCH", 1)
    made = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, **{f"blob{number}": b"%d" % (number // 2) for number in range(40)})
        begin_sharing(settings)
        proxy.fail(faults.answer(403, "AccessDenied"), method="POST", target="delete", times=100)
        with pytest.raises(Refused, match="s3:DeleteObject"):
            converted(checked.storage, concurrency=1)
    assert len(own(settings)) == 40 and len(below(settings, "objects/")) < 5


def test_what_object_lock_keeps_stays_as_it_is(make_site, settings, s3):
    """A deletion would hide it only, and the shared copy would have no hold."""
    with lockable(s3) as bucket:
        made = make_site("filestorage", store=dataclasses.replace(settings, bucket=bucket), **OWNED)
        with Checked(made) as checked:
            commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO, four=LOGO)
            begin_sharing(made.settings.store)
            held, retained = checked.key("one"), checked.key("two")
            s3.put_object_legal_hold(Bucket=bucket, Key=held, LegalHold={"Status": "ON"})
            until = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(hours=1)}
            s3.put_object_retention(Bucket=bucket, Key=retained, Retention=until)
            report = converted(checked.storage)
            counts = (report.held, report.locked, report.converted)
            assert ([count.blobs for count in counts], report.versions) == ([1, 1, 2], 2)
            assert sorted(own(made.settings.store)) == sorted([held, retained])
            assert set(bytes_of(made.settings.store, checked.kept()).values()) == {LOGO}
            made.close_all()


def test_versions_of_what_was_deleted_are_told(site, settings, s3):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    assert converted(site.storage).versions == 5


def test_records_that_name_their_object_are_left_alone(site, settings, monkeypatch):
    """A restored one whose name was given up has an object of its own, and readers look nowhere else."""
    kept = [dataclasses.replace(each, object=named(LOGO, 7)) if each.sha256 else each for each in site.kept()]
    from collective.s3blobstorage.maintenance import comparing

    monkeypatch.setattr(comparing, "kept_revisions", lambda *arguments: iter(kept))
    report = converted(site.storage)
    assert report.named.blobs == 7 and references(settings) == []


def test_an_undone_change_is_converted_once(site, settings):
    undo_last(site.db)
    commit_blobs(site.db, other=b"another" * 10)
    before = bytes_of(settings, site.kept())
    report = converted(site.storage)
    assert report.converted.blobs == 7 and bytes_of(settings, site.kept()) == before
    assert site.fsck(deep=True) == {}


def test_a_killed_conversion_is_completed(site, settings):
    """Reference and object are there, its own object is still: as after a kill before the last step."""
    oid, name = read_key(site.key("one"))
    with as_ours(settings) as store:
        store.put_bytes(reference_key(oid, name, named(LOGO)), b"")
        store.copy(site.key("one"), object_key(named(LOGO)))
    assert site.fsck() == {} and site.report.orphaned.blobs == 0
    report = converted(site.storage)
    assert report.converted.blobs == 5 and report.made.blobs == 1
    assert site.fsck(deep=True) == {}


def test_it_stops_and_goes_on_below(site, settings, monkeypatch):
    class Stopping(Quiet):
        def phase(self, name, total=None, total_bytes=None):
            return lambda count, size=0: self.stop.set() if name == "sharing" else None

    monkeypatch.setattr(dedup, "_WINDOW", 1)
    before = bytes_of(settings, site.kept())
    report = converted(site.storage, Stopping(), concurrency=1)
    assert report.stopped and report.below == len(VIDEO) and report.converted.blobs == 2
    rest = converted(site.storage, most=report.below)
    assert rest.converted.blobs == 3 and not rest.stopped and bytes_of(settings, site.kept()) == before


def test_it_is_refused_where_not_every_process_can_read_it(make_site, settings):
    made = make_site("filestorage", **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO)
        with pytest.raises(ConfigurationError, match="set dedup on"):
            converted(checked.storage)
        assert below(settings, "objects/") == []


def test_gc_or_a_rotation_beside_it_is_refused(site, settings):
    with as_ours(settings) as store, held(store, Margins(), Clock()), pytest.raises(Taken):
        converted(site.storage)
    assert references(settings) == [] and issubclass(Taken, UnsafeError)


def test_many_batches_of_one_content_in_flight(make_site, settings, monkeypatch):
    monkeypatch.setattr(dedup, "_BATCH", 4)
    made = make_site("filestorage", **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, **{f"blob{number}": LOGO for number in range(30)})
        begin_sharing(settings)
        before = bytes_of(settings, checked.kept())
        report = converted(checked.storage, concurrency=8)
        assert (report.converted.blobs, report.made.blobs) == (30, 1)
        assert bytes_of(settings, checked.kept()) == before and len(below(settings, "objects/")) == 1


def test_a_site_reads_and_commits_meanwhile(make_site, settings):
    """Machines that never read a blob before read all of them again and again, and one of the same bytes is stored."""
    made = make_site("filestorage", **OWNED, dedup=True)
    wanted = {f"blob{number}": (LOGO, VIDEO)[number % 2] + bytes([number % 4]) for number in range(40)}
    commit_blobs(made.db(dedup=False), **wanted)
    made.close_all()
    stop, failed, reads = threading.Event(), [], []
    with Checked(made) as checked:
        kept, on = checked.kept(), checked.storage.operated()

        def read():
            while not stop.is_set():
                reader = reader_of(on.store, on.marker)  # which remembers nothing
                for each in kept:
                    file = BytesIO()
                    try:
                        reader.source(each.oid, each.tid, each.state).download(file)
                    except Exception as error:
                        failed.append(error)
                    found.add((each.oid, file.getvalue()))
                    reads.append(each.oid)

        found: set[tuple[bytes, bytes]] = set()
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(reads) > 40)
            report = converted(checked.storage, concurrency=4)
            commit_blobs(checked.db, later=wanted["blob0"])
            until = len(reads) + 120
            wait_until(lambda: len(reads) > until or failed, 60)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failed == [] and report.converted.blobs == 40 and own(settings) == []
    assert sorted(data for _, data in found) == sorted(wanted.values())
    assert len(below(settings, "objects/")) == 4


# The command


@pytest.fixture
def command(site, settings, tmp_path):
    site.site.close_all()
    return Command(site.site, settings, tmp_path)


def test_the_command(command, settings):
    result = command.run("--dry-run", "--min-size", "1", verb="dedup")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "alone               2 blobs, 4.5 KB, which nothing else equals",
        "equal               5 blobs, 207.0 KB",
        "would be converted  5 blobs, 207.0 KB",
        "would be made       2 shared objects, 101.6 KB",
        "saves               105.5 KB",
        "ask more            5 blobs, at a machine's first read, since their records do not say where",
    ]
    assert references(settings) == []
    told = document(command.run("--min-size", "1", "--json", verb="dedup"))
    assert (told["converted"]["blobs"], told["saved_bytes"], told["dry_run"]) == (5, 108_000, False)
    told = document(command.run("--json", verb="dedup"))
    assert told["shared"]["blobs"] == 5 and told["min_size"] == 102_400 and told["small"]["blobs"] == 2


def test_a_report_of_s3_inventory_says_what_is_there(command, settings, tmp_path):
    """Two of its blobs were converted since."""
    with as_ours(settings) as store:
        lines = list(store.list())
    report = Report(tmp_path / "reports", datetime.now(UTC), bucket=settings.bucket)
    where = report.write(of_listing(lines, settings.prefix)).config
    told = document(command.run("--min-size", str(len(LOGO) + 1), "--json", verb="dedup"))
    assert told["converted"]["blobs"] == 2 and told["inventory"] is None
    told = document(command.run("--min-size", "1", "--json", "--inventory", where, verb="dedup"))
    assert (told["converted"]["blobs"], told["gone"]["blobs"], told["inventory"] is None) == (3, 2, False)
    result = document(command.run("--deep", "--json"))
    assert result["findings"] == [] and result["shared"]["references"] == 5
    with as_ours(settings) as store:
        lines = list(store.list())
    report = Report(tmp_path / "later", datetime.now(UTC), bucket=settings.bucket)
    where = report.write(of_listing(lines, settings.prefix)).config
    told = document(command.run("--json", "--inventory", where, "--oid-range", "0-2"))
    assert told["findings"] == [] and told["shared"]["broken"] == 0 and told["shared"]["references"] >= 1


def test_gc_finds_nothing_to_do_after_it(command, settings):
    assert command.run("--min-size", "1", verb="dedup").returncode == 0
    told = document(command.run("--dry-run", "--json", verb="gc"))
    assert told["used"]["blobs"] == 7 and told["waiting"]["blobs"] == told["condemned"]["blobs"] == 0
    shared = told["shared"]
    assert (shared["used"]["blobs"], shared["references"], shared["marking"]["blobs"]) == (2, 5, 0)
    assert shared["saved"] == 2 * len(LOGO) + len(VIDEO)


def test_wrong_options(command):
    assert command.run("--min-size", "2MB", "--max-size", "1MB", verb="dedup").returncode == 2
    for more, said in (
        ("read-only on", "set read-only off"),
        ("retention governance 1d", "retention is set"),
    ):
        command.conf(more)
        result = command.run(verb="dedup")
        assert result.returncode == 2 and said in one_line(result)


def test_the_command_does_not_say_for_the_site_that_it_can_read_shared_objects(make_site, settings, tmp_path):
    made = make_site("filestorage", **OWNED)
    commit_blobs(made.db(), one=LOGO, two=LOGO)
    made.close_all()
    command = Command(made, settings, tmp_path)
    command.conf("dedup on")
    result = command.run("--min-size", "1", verb="dedup")
    assert result.returncode == 2 and "restart them, and run it again" in one_line(result)
    made.db(dedup=True)
    made.close_all()
    assert command.run("--min-size", "1", verb="dedup").returncode == 0 and len(references(settings)) == 2


def test_keys_of_ones_own_are_refused(site, settings):
    on = site.storage.operated()
    with closing(open_store(dataclasses.replace(settings, encryption=client_side(one=b"1" * 32)))) as store:
        run = Comparison(on.look, store, read_marker(on.store), None, Scope(), None)
        with pytest.raises(ConfigurationError, match="keys of your own"):
            dedup.refuse(run)
