"""``s3blobs warm``: the cache is filled, newest first, as far as the limits allow, also beside a running site."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time

import pytest
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from servers import faults
from sites import commit_blobs, connected, read_blob
from ZODB.utils import oid_repr

KB, MB = 1024, 1024 * 1024
DATA = {f"b{number}": os.urandom(20 * KB + number) for number in range(12)} | {"large": os.urandom(9 * MB)}
BASES = {
    "filestorage": "<filestorage>\n  path {folder}/Data.fs\n</filestorage>",
    "sqlite-hp": "<relstorage>\n  <sqlite3>\n    data-dir {folder}/sqlite\n  </sqlite3>\n</relstorage>",
}


@pytest.fixture(params=["filestorage", "sqlite-hp"])
def kind(request):
    return request.param


@pytest.fixture
def warmed(make_site, settings, proxy, tmp_path):
    """``warmed(kind)``: a site in use by this process with blobs committed one after the other, and
    ``run(*arguments)`` of the command on an empty cache of another folder."""

    def make(kind):
        store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
        site = make_site(kind, store=store)
        db = site.db()
        for name, data in DATA.items():
            commit_blobs(db, **{name: data})
        cache = tmp_path / "warm"
        base = BASES[kind].format(folder=site.folder)
        imports = "%import relstorage\n" if kind.startswith("sqlite") else ""
        conf = tmp_path / "storage.conf"
        conf.write_text(f"%import collective.s3blobstorage\n{imports}{section(store, cache, base, 'cache-size 100MB')}")
        proxy.reset()
        return db, cache, conf

    return make


def run(conf, *arguments, **options):
    store = options.pop("store")
    return s3blobs("--config", conf, "warm", *arguments, env=keys_of(store), **options)


def files(cache) -> list[int]:
    return sorted(path.stat().st_size for path in cache.rglob("*.blob"))


def test_everything_arrives_once_beside_a_running_site(warmed, settings, proxy, kind):
    db, cache, conf = warmed(kind)
    result = run(conf, "--json", store=settings)
    assert result.returncode == 0, result.stderr
    found = document(result)
    assert found["fetched"] == 13 and found["bytes"] == sum(map(len, DATA.values())) and found["failed"] == []
    assert files(cache) == sorted(map(len, DATA.values()))
    assert proxy.counts("/blobs/") == {"GetObject": 12 + 3}  # the large one by its three parts
    proxy.reset()
    again = document(run(conf, "--json", store=settings))
    assert (again["fetched"], again["cached_before"]) == (0, 13) and proxy.counts("/blobs/") == {}
    assert read_blob(db, "b1") == DATA["b1"]  # the site goes on


def test_limits(warmed, settings, proxy):
    _, cache, conf = warmed("filestorage")
    text = run(conf, "--dry-run", "--limit", "100KB", "--largest", "1MB", store=settings)
    assert text.returncode == 0 and "would be fetched     4 blobs, 80.0 KB" in text.stdout
    assert "left out             8 older, which do not fit" in text.stdout and "1 too large" in text.stdout
    assert files(cache) == [] and proxy.counts("/blobs/") == {}
    text = run(conf, "--limit", "100KB", "--largest", "1MB", store=settings)
    assert "fetched              4 blobs, 80.0 KB" in text.stdout
    assert files(cache) == [len(DATA[f"b{number}"]) for number in range(8, 12)]
    aged = document(run(conf, "--json", "--age", "1h", "--dry-run", store=settings))
    assert aged["left_out"]["too_old"] == 0 and aged["cached_before"] == 4


def test_named_blobs(warmed, settings, tmp_path):
    db, cache, conf = warmed("filestorage")
    with connected(db) as connection:
        oids = {name: oid_repr(connection.root()[name]._p_oid) for name in DATA}
    listed = tmp_path / "oids"
    listed.write_text(f"# wanted\n{oids['b1']}\n\n{oids['b2'].removeprefix('0x')}  # and this\n")
    result = run(conf, "--json", "--oids", listed, "--oid", oids["b3"], "--oid", "0x0", "--oid", "ffff", store=settings)
    found = document(result)
    assert result.returncode == 1 and sorted(found["not_found"]) == ["0x00", "0xffff"]
    assert files(cache) == [len(DATA[name]) for name in ("b1", "b2", "b3")]
    listed.write_text("what\n")
    wrong = run(conf, "--oids", listed, store=settings)
    assert wrong.returncode == 2 and "'what'" not in wrong.stdout and "is not an oid" in one_line(wrong)


@pytest.mark.parametrize(
    "arguments, said",
    [(("--oid", "xyz"), "is not an oid"), (("--limit", "much"), "is not a size"), (("--age", "-1d"), "is negative")],
)
def test_wrong_options(warmed, settings, arguments, said):
    _, _, conf = warmed("filestorage")
    result = run(conf, *arguments, store=settings)
    assert result.returncode == 2 and said in result.stderr


def test_one_that_is_missing_does_not_stop_the_others(warmed, settings, proxy):
    db, cache, conf = warmed("filestorage")
    with connected(db) as connection:
        blob = connection.root()["b5"]
        blob._p_activate()
        location = db.storage.locate(blob._p_oid, blob._p_serial)
    db.storage.store_.delete(location.keys)
    result = run(conf, "--json", store=settings)
    found = document(result)
    assert result.returncode == 1 and found["fetched"] == 12
    assert [oid for oid, _ in found["failed"]] == [oid_repr(blob._p_oid)]
    text = run(conf, store=settings)
    assert (
        text.returncode == 1
        and f"failed               {oid_repr(blob._p_oid)}: its object is in no place where it may be" in text.stdout
    )


def test_ctrl_c_keeps_what_was_fetched(warmed, settings, proxy):
    _, cache, conf = warmed("filestorage")
    proxy.fail(faults.hang("before", seconds=3.0), method="GET", target="/blobs/", nth=3, times=20)
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "warm", "--json", "--concurrency", "2"], env=keys_of(settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(files(cache)) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping" in said, said
    assert '"stopped": true' in printed
    kept = len(files(cache))
    assert 2 <= kept < 13
    proxy.forgive()
    rest = document(run(conf, "--json", store=settings))
    assert (rest["cached_before"], rest["fetched"]) == (kept, 13 - kept)
