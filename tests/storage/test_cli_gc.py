"""``s3blobs gc``: the plan, its execution, and what it says where it refuses."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
from command_line import keys_of, one_line, s3blobs, section
from sites import bucket_keys, commit_blobs
from store_time import DAY, ShiftedStore
from ZODB.Connection import TransactionMetaData

from collective.s3blobstorage.cli import gc as verb
from collective.s3blobstorage.cli.command import run
from collective.s3blobstorage.keys import LEDGER, upload_key
from collective.s3blobstorage.storage.record import BlobState, with_state

OWNER = "owner www.example.org"


class Command:
    """The command on one site, at a time that the test sets. In this process, whose clock of the store is moved on."""

    def __init__(self, site, conf, capsys, monkeypatch):
        self.site, self.conf, self._capsys = site, conf, capsys
        self.time = ShiftedStore(None)
        opened = verb.opened_collection

        def at_that_time(*args, **kwargs):
            collection = opened(*args, **kwargs)
            return dataclasses.replace(collection, store=ShiftedStore(collection.store, self.time._shifts))

        monkeypatch.setattr(verb, "opened_collection", at_that_time)

    def __call__(self, *arguments):
        self._capsys.readouterr()
        status = run(["--config", str(self.conf), "gc", *arguments])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def plan(self, *arguments):
        status, out, err = self("--json", *arguments)
        assert (status, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def command(make_site, settings, tmp_path, capsys, monkeypatch):
    """A site of ten blobs, of which two were written again and packed; closed."""
    for name, value in keys_of(settings).items():
        monkeypatch.setenv(name, value)
    site = make_site("filestorage", owner="www.example.org", preflight=False, gc_on_pack="off")
    db = site.db()
    commit_blobs(db, **{f"blob{number}": b"first" for number in range(10)})
    commit_blobs(db, blob0=b"second")
    commit_blobs(db, blob1=b"second")
    db.pack(time.time() + 1)
    db.close()
    conf = tmp_path / "zope.conf"
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    conf.write_text("%import collective.s3blobstorage\n" + section(settings, site.settings.cache_dir, base, OWNER))
    return Command(site, conf, capsys, monkeypatch)


def test_from_garbage_to_gone(command, tmp_path):
    told = command.plan()
    assert (told["used"]["blobs"], told["young"]["blobs"], told["plan"], told["judged"]) == (10, 2, None, 12)
    command.time.advance(2 * DAY)
    told = command.plan()
    assert (told["waiting"]["blobs"], told["condemned"]["blobs"], told["plan"]) == (2, 0, None)
    assert told["next_due"] is not None
    status, out, err = command("--execute", "last")
    assert status == 0 and "no plan of the last 24 h has anything to delete" in err and "0 blobs" in out
    command.time.advance(8 * DAY)
    lines = tmp_path / "candidates"
    told = command.plan("--candidates", str(lines))
    assert (told["condemned"]["blobs"], told["condemned"]["bytes"]) == (2, 10)
    candidates = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [each["size"] for each in candidates] == [5, 5] and told["plan"] is not None
    assert len(command.site.keys()) == 12
    status, out, err = command("--execute", told["plan"], "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["deleted"] == {"blobs": 2, "bytes": 10} and len(command.site.keys()) == 10
    status, out, err = command("--execute", told["plan"])
    assert status == 2 and "is not there, had nothing to delete, or was executed" in err


def test_in_words(command):
    command.time.advance(2 * DAY)
    command()
    command.time.advance(8 * DAY)
    status, out, err = command()
    words = " ".join(out.split())
    assert (status, err) == (0, "")
    assert "in use 10 blobs, " in words and "may go 2 blobs, 10 bytes" in words
    assert "within 24 h: s3blobs gc --execute 2" in words
    status, out, err = command("--execute", "last")
    assert (status, err) == (0, "") and "deleted 2 blobs, 10 bytes" in " ".join(out.split())


def test_what_browsers_left_is_told_and_goes(command, s3, settings):
    s3.put_object(Bucket=settings.bucket, Key=upload_key("1" * 32), Body=b"12345")
    s3.create_multipart_upload(Bucket=settings.bucket, Key=upload_key("2" * 32))
    assert (told := command.plan())["staged"] == {"blobs": 1, "bytes": 5} and told["plan"] is None
    command.time.advance(1.1 * DAY)
    _, out, _ = command()
    words = " ".join(out.split())
    assert "from browsers 1 objects, 5 bytes, 1 unfinished, of which abandoned: 1 objects, 5 bytes, 1 unf" in words
    assert "foreign" not in words and "within 24 h: s3blobs gc --execute 2" in words
    status, out, err = command("--execute", "last")
    assert (status, err) == (0, "")
    assert "from browsers 1 objects, 5 bytes, 1 unfinished, abandoned, deleted" in " ".join(out.split())
    assert not [key for key in bucket_keys(settings) if key.startswith("uploads/")]


def test_a_plan_is_executed_within_a_day(command):
    command.time.advance(2 * DAY)
    command()
    command.time.advance(8 * DAY)
    name = command.plan()["plan"]
    command.time.advance(1.1 * DAY)
    status, _, err = command("--execute", name)
    assert status == 2 and "is older than 24 h: make a new one" in err
    assert command("--execute", "last")[0] == 0 and len(command.site.keys()) == 12


def test_what_is_in_use_again_is_spared(command):
    """Between plan and execution somebody undid, or restored: the database is asked again."""
    command.time.advance(2 * DAY)
    command()
    command.time.advance(8 * DAY)
    name = command.plan()["plan"]
    db = command.site.db()
    doomed = json.loads(db.storage.store_.get_bytes(f"gc/plan/{name}").splitlines()[1])
    _, oid, dead = doomed["key"].split("/")
    record, tid = db.storage.load(bytes.fromhex(oid))
    metadata = TransactionMetaData()
    base = db.storage._base
    base.tpc_begin(metadata)
    base.store(bytes.fromhex(oid), tid, with_state(record, BlobState(dead, 5)), "", metadata)
    base.tpc_vote(metadata)
    base.tpc_finish(metadata)
    command.site.close_all()
    status, out, _ = command("--execute", name, "--json")
    assert status == 0
    assert json.loads(out)["deleted"]["blobs"] == 1 and json.loads(out)["spared"] == 1
    assert doomed["key"] in command.site.keys()


def test_a_dry_run_writes_nothing(command, settings):
    before = bucket_keys(settings)
    command.time.advance(2 * DAY)
    told = command.plan("--dry-run")
    assert told["dry_run"] and told["waiting"]["blobs"] == 2
    assert bucket_keys(settings) == before and LEDGER not in before


def test_a_range_of_oids_leaves_the_dates_of_others(command):
    command.time.advance(2 * DAY)
    command()
    command.time.advance(8 * DAY)
    first = command.plan("--oid-range", "0-1")
    assert first["condemned"]["blobs"] == 1 and first["judged"] == 2
    assert command("--execute", first["plan"], "--allow", "60%")[0] == 0
    rest = command.plan("--oid-range", "2-")
    assert rest["condemned"]["blobs"] == 1
    assert len(command.site.keys()) == 11


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--allow", "0%"], "'0%' is not a share such as 35%, above 0% and up to 100%"),
        (["--allow", "much"], "'much' is not a share"),
        (["--allow", "101%"], "'101%' is not a share"),
        (["--oid-range", "x-y"], "is not an oid"),
        (["--execute", "last", "--dry-run"], "leave out --dry-run"),
        (["--execute", "last", "--oid-range", "0-1"], "leave out --oid-range"),
    ],
)
def test_wrong_options(command, arguments, said):
    status, out, err = command(*arguments)
    assert status == 2 and said in " ".join(err.split()) and out == ""


def test_refusals_are_one_line(command, settings):
    text = command.conf.read_text()
    ways = {
        "another owner": (text.replace(OWNER, "owner staging.example.org"), "belongs to owner 'www.example.org'"),
        "read-only": (text.replace(OWNER, f"{OWNER}\n  read-only on"), "read-only is on, and gc writes"),
    }
    for conf, said in ways.values():
        command.conf.write_text(conf)
        result = s3blobs("--config", command.conf, "gc", env=keys_of(settings))
        assert result.returncode == 2 and said in one_line(result)
    result = s3blobs("--config", command.conf, "gc", "--execute", "last", "--json", env=keys_of(settings))
    assert result.returncode == 2 and "error" in json.loads(result.stdout)
