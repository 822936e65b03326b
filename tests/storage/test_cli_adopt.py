"""``s3blobs adopt``: what keeps gc from judging, shown, and done away with after the owner's name was typed."""

from __future__ import annotations

import dataclasses
import shutil
import time

import pytest
from command_line import document, keys_of, one_line, s3blobs, section
from servers import faults
from shared_blobs import begin_sharing
from sites import bucket_keys, commit_blobs, read_blob
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64

from collective.s3blobstorage.keys import LEDGER, MARKER, WITNESS
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.owner import Marker
from collective.s3blobstorage.storage.witness import Witness

OWNER = "www.example.org"
OWNED = {"owner": OWNER, "preflight": False, "gc_on_pack": "off"}
OLD = "blobs/1/3c8b5e2f1a00000.blob"


class Restored:
    """A site whose Data.fs can be put back to an earlier state."""

    def __init__(self, make_site, settings, tmp_path):
        self.site = make_site("filestorage", **OWNED)
        self.settings = settings
        self.tmp_path = tmp_path
        self.store = open_store(settings)
        self.commit(a=b"a1", b=b"b1")
        shutil.copy(self.site.folder / "Data.fs", tmp_path / "backup.fs")
        time.sleep(0.01)
        self.commit(c=b"c1")

    def commit(self, **blobs):
        db = self.site.db()
        commit_blobs(db, **blobs)
        db.close()

    def restore(self):
        for path in self.site.folder.glob("Data.fs*"):
            path.unlink()
        shutil.copy(self.tmp_path / "backup.fs", self.site.folder / "Data.fs")

    def conf(self, *more, owner=OWNER, store=None):
        path = self.tmp_path / "storage.conf"
        base = f"<filestorage>\n  path {self.site.folder}/Data.fs\n</filestorage>"
        lines = [*([f"owner {owner}"] if owner else []), *more]
        text = section(store or self.settings, self.tmp_path / "cache", base, *lines)
        path.write_text("%import collective.s3blobstorage\n" + text)
        return path

    def keys(self, folder=""):
        return [key for key in bucket_keys(self.settings) if key.startswith(folder)]

    def run(self, *arguments, typed=f"{OWNER}\n", conf=None):
        return s3blobs("--config", conf or self.conf(), *arguments, env=keys_of(self.settings), input=typed)

    def bytes(self):
        """Everything in the bucket but what a lease leaves."""
        return {key: self.store.get_bytes(key) for key in self.keys() if not key.startswith("gc/lease/")}


@pytest.fixture
def site(make_site, settings, tmp_path):
    made = Restored(make_site, settings, tmp_path)
    yield made
    made.store.close()


def test_after_an_older_database_was_restored_gc_plans_again(site):
    assert site.run("gc").returncode == 0
    blobs = {key: data for key, data in site.bytes().items() if key.startswith("blobs/")}
    site.restore()
    refused = site.run("gc")
    assert refused.returncode == 2 and "run `s3blobs adopt`" in one_line(refused)
    shown = site.run("adopt", "--dry-run")
    assert shown.returncode == 0 and "contradicting" in shown.stdout and "knows transaction" in shown.stdout
    assert site.run("gc").returncode == 2
    result = site.run("adopt")
    assert result.returncode == 0 and "every date begins anew" in result.stdout, result.stderr
    planned = site.run("gc", "--json", "--allow", "100%")
    assert planned.returncode == 0, planned.stderr
    told = document(planned)
    assert (told["used"]["blobs"], told["young"]["blobs"], told["condemned"]["blobs"]) == (2, 1, 0)
    assert {key: data for key, data in site.bytes().items() if key.startswith("blobs/")} == blobs
    db = site.site.db()
    assert read_blob(db, "a") == b"a1"


def test_every_date_begins_anew(site):
    key = site.keys("blobs/")[0]
    old = int(time.time()) - 100 * 86400
    site.store.put_bytes(LEDGER, f'{{"format": 1, "at": {old}, "whole": {old}}}\n{key}\t{old}\t1\n'.encode())
    site.store.put_bytes("gc/plan/20200101T000000Z-00000000", b"{}\n")
    site.restore()
    assert site.run("adopt").returncode == 0
    lines = site.store.get_bytes(LEDGER).decode().splitlines()
    assert len(lines) == 1 and '"whole": 0' in lines[0]
    assert site.keys("gc/plan/") == []


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "www.example\n"])
def test_the_owners_name_has_to_be_typed(site, typed):
    site.restore()
    before = site.bytes()
    result = site.run("adopt", typed=typed)
    assert result.returncode == 1 and site.bytes() == before
    asked, message = result.stderr.splitlines()
    assert asked.startswith(f"Type {OWNER} to say that this database")
    assert message == f"s3blobs: nothing was changed: {OWNER} was not typed"


def test_a_witness_that_fits_stays_and_one_that_does_not_goes(site):
    [fits, _] = site.keys(WITNESS)
    tid = Witness.from_json(site.store.get_bytes(site.keys(WITNESS)[1])).tid
    last = max(tid, Witness.from_json(site.store.get_bytes(fits)).tid)
    for key in site.keys(WITNESS):
        site.store.put_bytes(key, Witness(last).to_json())
    ahead, damaged, large = WITNESS + "1" * 32, WITNESS + "2" * 32, WITNESS + "3" * 32
    site.store.put_bytes(ahead, Witness(p64(u64(last) + 1)).to_json())
    site.store.put_bytes(damaged, b'{"format": 1, "tid"')
    site.store.put_bytes(large, b"x" * 70000)
    broken = site.run("gc")
    assert broken.returncode == 2 and "s3blobs adopt" in one_line(broken)
    told = document(site.run("adopt", "--dry-run", "--json"))
    assert {witness["key"]: "damaged" in witness["why"] for witness in told["witnesses"]} == {
        ahead: False,
        damaged: True,
        large: True,
    }
    assert (told["needed"], told["done"]) == (True, False)
    told = document(site.run("adopt", "--json"))
    assert told["done"] and len(site.keys(WITNESS)) == 2
    assert site.run("gc").returncode == 0


def test_a_witness_of_a_newer_release_is_not_judged(site):
    newer = WITNESS + "1" * 32
    site.store.put_bytes(newer, b'{"format": 2, "what": "else"}')
    result = site.run("adopt")
    assert result.returncode == 2 and "newer release" in one_line(result) and newer in site.keys()


def test_objects_of_zodb_s3blobs_are_judged_from_then_on(site):
    site.store.put_bytes(OLD, b"old")
    before = site.bytes()
    assert document(site.run("gc", "--json"))["old"]["blobs"] == 1
    shown = site.run("adopt", "--dry-run")
    assert "1 blobs, 3 bytes under keys of zodb-s3blobs; gc does not judge them" in shown.stdout
    told = document(site.run("adopt", "--json"))
    assert told["done"] and told["old"] == {"blobs": 1, "bytes": 3, "judged": False} and told["witnesses"] == []
    assert b'"adopted": true' in site.store.get_bytes(MARKER)
    planned = document(site.run("gc", "--json"))
    assert (planned["old"]["blobs"], planned["young"]["blobs"]) == (0, 1)
    assert all(site.bytes()[key] == data for key, data in before.items() if key.startswith("blobs/"))
    again = site.run("adopt", typed="")
    assert again.returncode == 0 and "nothing: gc judges every blob" in again.stdout


def test_a_prefix_that_only_zodb_s3blobs_knew_gets_its_owner(site):
    site.store.delete(key for key in site.keys() if not key.startswith("blobs/"))
    site.store.put_bytes(OLD, b"old")
    shown = site.run("adopt", "--dry-run")
    assert "there is no marker" in shown.stdout and MARKER not in site.keys()
    assert site.run("adopt", typed="no\n").returncode == 1 and MARKER not in site.keys()
    assert site.run("adopt").returncode == 0
    marker = Marker.from_json(site.store.get_bytes(MARKER))
    assert marker == Marker(OWNER, foreign_keys=True, adopted=True)


def test_a_prefix_with_shared_objects_stays_one(site):
    begin_sharing(site.store)
    site.store.put_bytes(OLD, b"old")
    assert site.run("adopt").returncode == 0
    marker = Marker.from_json(site.store.get_bytes(MARKER))
    assert marker.adopted and marker.deduplicated


def test_the_dates_stay_where_only_old_keys_are_adopted(site):
    ledger = b'{"format": 1, "at": 1700000000, "whole": 1700000000}\n'
    site.store.put_bytes(LEDGER, ledger)
    site.store.put_bytes(OLD, b"old")
    assert site.run("adopt").returncode == 0
    assert site.store.get_bytes(LEDGER) == ledger


def test_without_an_owner_it_is_refused(site):
    site.restore()
    before = site.bytes()
    result = site.run("adopt", conf=site.conf(owner=None))
    assert result.returncode == 2 and "owner is not set" in one_line(result) and site.bytes() == before


def test_another_owners_prefix_is_never_taken_over(site):
    site.restore()
    before = site.bytes()
    for arguments in ((), ("--dry-run",)):
        result = site.run("adopt", *arguments, conf=site.conf(owner="staging"), typed="staging\n")
        assert result.returncode == 2 and "belongs to owner 'www.example.org'" in one_line(result)
    assert site.bytes() == before


def test_an_empty_database_is_refused(site):
    for path in site.site.folder.glob("Data.fs*"):
        path.unlink()
    before = site.bytes()
    conf = site.conf()
    FileStorage(str(site.site.folder / "Data.fs")).close()
    result = site.run("adopt", conf=conf)
    assert result.returncode == 2 and "the database is empty" in one_line(result) and site.bytes() == before


def test_read_only_and_a_wrong_command_line(site):
    site.restore()
    read_only = site.conf("read-only on")
    result = site.run("adopt", conf=read_only)
    assert result.returncode == 2 and "read-only is on" in one_line(result)
    assert site.run("adopt", "--dry-run", conf=read_only).returncode == 0
    wrong = site.run("adopt", "--what")
    assert wrong.returncode == 2 and "No such option" in wrong.stderr


def test_beside_a_gc_that_runs_nothing_is_changed(site):
    site.restore()
    site.store.put_bytes("gc/lease/000000000009", b'{"host": "other"}')
    before = site.bytes()
    result = site.run("adopt")
    assert (
        result.returncode == 2 and "another gc of this prefix, or a rotation of its keys, is running" in result.stderr
    )
    assert site.bytes() == before


def test_killed_between_ledger_and_witnesses_it_is_run_again(site, proxy):
    """A failure of the store stands for the kill: what comes after the ledger is not done."""
    site.restore()
    witnesses = site.keys(WITNESS)
    conf = site.conf(store=dataclasses.replace(site.settings, endpoint_url=proxy.endpoint_url))
    proxy.fail(faults.answer(403, "AccessDenied"), method="DELETE", target=WITNESS, times=100)
    proxy.fail(faults.answer(403, "AccessDenied"), method="POST", target="delete", times=100)
    result = site.run("adopt", conf=conf)
    assert result.returncode == 2 and site.keys(WITNESS) == witnesses
    assert LEDGER in site.keys()
    proxy.forgive()
    assert site.run("adopt").returncode == 0
    assert site.run("gc").returncode == 0
