"""`s3blobs status` as a process, on real files and a real bucket, also beside a running site."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from servers import faults
from sites import bucket_keys, commit_blobs, wait_until

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.keys import upload_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.status import figures

IMPORT = "%import collective.s3blobstorage\n"


@pytest.fixture
def configured(make_site, settings):
    """A running site over FileStorage, and the file that describes it."""
    site = make_site("filestorage", owner="www.example.org")

    def write(*more: str, base: str | None = None):
        path = site.folder / "zope.conf"
        base = base or f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
        wrapper = section(settings, site.settings.cache_dir, base, *more)
        path.write_text(f"{IMPORT}instancehome {site.folder}\n<zodb_db main>\n  mount-point /\n{wrapper}</zodb_db>\n")
        return path

    return site, write


def test_status_beside_a_running_site_that_holds_its_lock(configured, settings, s3):
    site, write = configured
    db = site.db()
    commit_blobs(db, small=b"x" * 1000, large=b"y" * 100_000)
    wait_until(lambda: any(key.startswith("gc/witness/") for key in bucket_keys(settings)))
    s3.put_object(Bucket=settings.bucket, Key="blobs/1f/3c4d.blob", Body=b"of zodb-s3blobs")
    s3.put_object(Bucket=settings.bucket, Key="blobs/notes.txt", Body=b"of nobody")
    s3.put_object(Bucket=settings.bucket, Key="addons/collective.x/a", Body=b"of an add-on")
    s3.create_multipart_upload(Bucket=settings.bucket, Key="blobs/unfinished")
    s3.put_object(Bucket=settings.bucket, Key=upload_key("1" * 32), Body=b"of a browser")
    s3.create_multipart_upload(Bucket=settings.bucket, Key=upload_key("2" * 32))
    path = write("owner www.example.org", "cache-size 1MB")
    assert (site.folder / "Data.fs.lock").exists()
    db.storage.cache.counters.save()  # or its own thread does within five seconds
    before = sorted(str(entry) for entry in site.settings.cache_dir.rglob("*"))

    result = s3blobs("--config", path, "status", "--json", env=keys_of(settings))
    assert (result.returncode, result.stderr) == (0, "")
    told = document(result)
    objects = told["objects"]
    assert objects["blobs"] == {"objects": 2, "bytes": 101_000}
    assert objects["zodb_s3blobs"] == {"objects": 1, "bytes": 15}
    assert objects["other"] == {"objects": 1, "bytes": 9}
    assert objects["bookkeeping"]["objects"] == 2  # the owner's marker, and what this process tells gc
    assert objects["addons"] == {"objects": 1, "bytes": 12}
    assert objects["total"]["objects"] == 8
    assert told["direct_uploads"] == {"objects": 1, "bytes": 12, "unfinished": 1}
    assert (told["owner"], told["owner_differs"], told["layouts"]) == ("www.example.org", False, ["ours"])
    assert told["unfinished_uploads"]["count"] == 1
    cache, machine = told["cache"], told["machine"]
    assert (cache["files"], cache["processes"], machine["databases"], machine["bound"]) == (2, 1, 1, 1024**2)
    assert 101_000 <= cache["bytes"] == machine["bytes"] <= 150_000
    assert cache["counters"] == machine["counters"] == db.storage.cache.counters.snapshot()
    assert cache["counters"]["bytes"] == 101_000
    assert datetime.fromisoformat(cache["since"]) <= datetime.now(UTC)
    assert sorted(str(entry) for entry in site.settings.cache_dir.rglob("*")) == before

    result = s3blobs("--config", path, "status", env=keys_of(settings))
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    words = " ".join(result.stdout.split())
    for said in (
        "database main (filestorage)",
        " blobs 2 objects, 98.6 KB ",
        " of add-ons 1 objects, 12 bytes ",
        " cache 2 files, ",
        " 0 parts, 98.6 KB written, ",
        f" since {cache['since']} ",
        " cache-dir 1 database, ",
        " of 1.0 MB (1",
    ):
        assert said in words
    assert settings.secret_key not in result.stdout


def test_status_of_a_cache_that_two_databases_share(configured, settings):
    site, write = configured
    db = site.db()
    commit_blobs(db, small=b"x" * 1000)
    other = BlobCache(site.settings.cache_dir, "of another database", size=1024**2)
    for number in range(3):
        other.fetch(bytes(8), number.to_bytes(8, "big"), lambda file: file.write(b"12345"))
    other.get(bytes(8), bytes(8))
    other.close()
    db.storage.cache.counters.save()
    (site.settings.cache_dir / "notes").write_bytes(bytes(100_000))
    path = write("owner www.example.org")
    told = document(s3blobs("--config", path, "status", "--json", env=keys_of(settings)))
    cache, machine = told["cache"], told["machine"]
    assert (cache["files"], machine["files"], machine["databases"], machine["processes"]) == (1, 4, 2, 1)
    assert cache["bytes"] < machine["bytes"] < 100_000
    theirs = {name: machine["counters"][name] - cache["counters"][name] for name in cache["counters"]}
    assert theirs == {
        "hits": 1, "misses": 3, "waits": 0, "downloads": 3, "parts": 0, "bytes": 15, "evictions": 0, "errors": 0
    }  # fmt: skip
    assert machine["since"] <= cache["since"]
    result = s3blobs("--config", path, "status", env=keys_of(settings))
    words = " ".join(result.stdout.split())
    assert " cache-dir 2 databases, " in words and f" cache-dir use {machine['counters']['hits']} hits (" in words


def test_pages_are_counted_and_the_rate_is_shown_on_a_terminal(configured, settings, s3):
    site, write = configured
    site.open().close()
    for number in range(1001):
        s3.put_object(Bucket=settings.bucket, Key=f"blobs/{number:016x}/{number:032x}", Body=b"")
    path = write("owner www.example.org")
    controller, terminal = pty.openpty()
    command = [SCRIPT, "--config", path, "status", "--json"]
    env = keys_of(settings) | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=terminal, text=True) as process:
        os.close(terminal)
        printed, shown = process.stdout.read(), b""
        try:
            while block := os.read(controller, 65536):
                shown += block
        except OSError:
            pass  # the other end of a pseudo terminal was closed
    os.close(controller)
    assert process.returncode == 0
    assert '"objects": 1001' in printed and "\x1b" not in printed
    assert b"1,002 objects" in shown and b"/s" in shown


def test_prefix_of_another_owner_is_status_1(configured, settings):
    site, write = configured
    site.open().close()
    result = s3blobs("--config", write("owner staging"), "status", env=keys_of(settings))
    assert result.returncode == 1
    assert "www.example.org, which is not the configured staging" in result.stdout


def kept(settings):
    with closing(open_store(settings)) as store:
        return figures.read(store)


def test_figures_are_kept_where_that_is_allowed(configured, settings, proxy):
    site, write = configured
    db = site.db()
    commit_blobs(db, small=b"x" * 1000)
    wait_until(lambda: any(key.startswith("gc/witness/") for key in bucket_keys(settings)))
    keys = bucket_keys(settings)
    for more in (("owner staging.example.org",), ("owner www.example.org", "read-only on")):
        s3blobs("--config", write(*more), "status", env=keys_of(settings))
        assert bucket_keys(settings) == keys
    # Credentials that may only read: nothing is said, since nobody asked for it to be kept.
    path = write("owner www.example.org")
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    refused = proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", times=9)
    result = s3blobs("--config", path, "status", "--json", env=keys_of(settings))
    assert (result.returncode, result.stderr, refused.hits) == (0, "", 1)
    assert bucket_keys(settings) == keys
    proxy.forgive()
    told = document(s3blobs("--config", path, "status", "--json", env=keys_of(settings)))
    found = kept(settings)
    assert found["by"] == "s3blobs status" and found["blobs"] == {"objects": 1, "bytes": 1000}
    parts = {name: count for name, count in told["objects"].items() if name != "direct_uploads"}
    assert {name: found[name] for name in parts} == parts
    assert found["direct_uploads"] == told["direct_uploads"]
    assert found["uploads"] == told["unfinished_uploads"]
    assert db.storage.status("main").document()["figures"] == found


def test_prefix_that_was_never_opened(configured, settings):
    _, write = configured
    result = s3blobs("--config", write(), "status", env=keys_of(settings))
    assert result.returncode == 0
    assert "nobody yet" in result.stdout


def test_wrong_secret_is_one_line_without_it(configured, settings):
    _, write = configured
    env = keys_of(settings) | {"SITE_SECRET_KEY": "wrong-secret-of-test"}
    result = s3blobs("--config", write(), "status", "--json", env=env)
    assert result.returncode == 2
    assert "s3-secret-key: it does not belong to the access key" in one_line(result)
    assert document(result)["error"] in one_line(result)
    assert "wrong-secret-of-test" not in result.stdout + result.stderr


def test_base_of_status_is_not_opened(configured, settings):
    _, write = configured
    path = write(base="<zeoclient>\n  server 127.0.0.1:9\n</zeoclient>")
    assert s3blobs("--config", path, "status", env=keys_of(settings)).returncode == 0


def test_interrupt_ends_with_130_and_no_traceback(configured, settings, proxy):
    _, write = configured
    path = write()
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    proxy.fail(faults.hang())
    command = [SCRIPT, "--config", path, "status"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=keys_of(settings), text=True, **pipes) as process:
        wait_until(lambda: proxy.exchanges, 60)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert "Traceback" not in complaint
