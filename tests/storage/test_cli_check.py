"""`s3blobs check` as a process, on real files and a real bucket, also beside a running site."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import ZODB
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from rings import sse_c, variables_of
from servers import faults
from sites import bucket_keys, commit_blobs, wait_until
from test_preflight_stores import KEY, a_user
from ZODB.blob import FilesystemHelper
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import z64

from collective.s3blobstorage.cli.command import run
from collective.s3blobstorage.objectstore.preflight import AT_OPEN, DEEPER, LAST_BEFORE_WRITING

IMPORT = "%import collective.s3blobstorage\n"
LOCAL = ["configuration", "cache-dir", "staging-dir", "cache space", "one file system", "database", "local clock"]
LOCAL += ["garbage"]
UPLOADS = ["lifecycle", "direct upload", "other pages", "hosts"]


def make_empty(folder: Path) -> None:
    """A database of RelStorage on sqlite."""
    options = Options(blob_dir=str(folder / "blobs"), shared_blob_dir=False)
    adapter = Sqlite3Adapter(str(folder), pragmas={}, options=options)
    ZODB.DB(RelStorage(adapter, name="sqlite", options=options)).close()


@pytest.fixture
def configured(make_site, settings):
    """A site over FileStorage, and the file that describes it as a ZEO server would have it."""
    site = make_site("filestorage", owner="www.example.org")

    def write(*more: str, base: str | None = None, owner: str = "owner www.example.org") -> Path:
        path = site.folder / "site.conf"
        base = base or f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
        path.write_text(IMPORT + section(settings, site.settings.cache_dir, base, owner, *more, name="1"))
        return path

    return site, write


@pytest.fixture
def checked(settings, monkeypatch, capfd) -> Callable[..., tuple[int, dict[str, dict]]]:
    """``checked(file, options…, NAME=value…)``: status and findings by name, of a run in this process."""

    def check(path: Path, *options: str, **env: str) -> tuple[int, dict[str, dict]]:
        monkeypatch.setattr(os, "environ", keys_of(settings) | env)
        monkeypatch.setattr(tempfile, "tempdir", None)
        capfd.readouterr()
        status = run(["--config", str(path), "check", "--json", *options])
        printed, complaint = capfd.readouterr()
        assert complaint == ""
        assert settings.secret_key not in printed
        return status, findings_of(status, json.loads(printed))

    return check


def findings_of(status: int, told: dict) -> dict[str, dict]:
    """The findings by name, after what holds of every run."""
    assert told["ok"] is (status == 0)
    asked = AT_OPEN.index(LAST_BEFORE_WRITING) + 1
    remote = [*AT_OPEN[:asked], "owner", "keys", *AT_OPEN[asked:], *DEEPER]
    names = [finding["name"] for finding in told["findings"]]
    names = [name for name in names if not name.startswith(("source ", "metrics "))]
    assert [name for name in names if name not in UPLOADS[2:]] == [*LOCAL, *remote, *UPLOADS[:2]]
    for finding in told["findings"]:
        assert finding["seconds"] >= 0 and finding["detail"]
        if finding["ok"] is False:
            assert finding["mend"]
    return {finding["name"]: finding for finding in told["findings"]}


def wrong(findings: dict[str, dict]) -> list[str]:
    return [name for name, finding in findings.items() if finding["ok"] is False]


def test_the_token_for_metrics(configured, checked, tmp_path):
    _, write = configured
    token = tmp_path / "token"
    path = write(f"metrics-token-file {token}")
    status, findings = checked(path, "--no-write")
    assert (status, wrong(findings)) == (1, ["metrics token"])
    assert "does not exist" in findings["metrics token"]["detail"]
    assert findings["metrics token"]["mend"].startswith(f"openssl rand -hex 32 > {token}")
    token.write_text("of-sixteen-letters")
    token.chmod(0o666)
    _, findings = checked(path, "--no-write")
    assert "may be written by others" in findings["metrics token"]["detail"]
    token.chmod(0o600)
    status, findings = checked(path, "--no-write")
    assert (status, findings["metrics token"]["ok"]) == (0, True)
    assert "of-sixteen" not in str(findings)


def test_all_is_well_beside_a_running_site_that_holds_its_lock(configured, settings):
    site, write = configured
    db = site.db()
    commit_blobs(db, one=b"content")
    wait_until(lambda: any(key.startswith("gc/witness/") for key in bucket_keys(settings)))
    assert (site.folder / "Data.fs.lock").exists()
    files = sorted(str(entry) for entry in site.folder.rglob("*"))
    keys = bucket_keys(settings)
    path = write("staging-dir " + str(site.folder / "staging"))
    result = s3blobs("--config", path, "check", "--json", env=keys_of(settings))
    assert result.stderr == "" and settings.secret_key not in result.stdout
    findings = findings_of(result.returncode, document(result))
    assert (result.returncode, wrong(findings)) == (0, [])
    assert "last transaction is of 20" in findings["database"]["detail"]
    assert findings["owner"]["detail"] == "the prefix belongs to 'www.example.org'"
    assert findings["garbage"]["detail"].startswith("an object that nothing refers to goes after gc-keep, 7 days: ")
    assert bucket_keys(settings) == sorted([*keys, "status/check"])  # what was found, for the site's status
    assert sorted(str(entry) for entry in site.folder.rglob("*")) == sorted([*files, str(path)])
    commit_blobs(db, two=b"the site goes on")

    result = s3blobs("--config", path, "check", env=keys_of(settings))
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) == len(findings) + 2
    assert all(line[0] in "✓–" for line in lines[1:-1])
    assert lines[-1].startswith(f"{len(findings)} checks: ") and " 0 to mend" in lines[-1]


def test_nothing_is_written_where_that_is_not_wanted(configured, settings, proxy, checked):
    site, write = configured
    site.open().close()
    path = write()
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    for options, more in ((["--no-write", "--no-base"], ""), ([], "read-only on")):
        proxy.reset()
        path.write_text(path.read_text().replace("owner www", f"{more}\n  owner www", 1))
        status, findings = checked(path, *options)
        assert status == 0
        assert set(proxy.methods()) <= {"GET", "HEAD"}
        assert findings["write"]["ok"] is None
        assert findings["database"]["ok"] is (None if options else True)


def test_what_an_addon_keeps_is_not_what_reading_is_tried_with(configured, settings, s3, checked):
    """It may be encrypted with a key that nobody here has."""
    _, write = configured
    s3.put_object(Bucket=settings.bucket, Key="addons/collective.x/a", Body=b"x")
    status, findings = checked(write(), "--no-write")
    assert status == 0 and findings["read"]["ok"] is None
    s3.put_object(Bucket=settings.bucket, Key="blobs/0000000000000001/" + "a" * 32, Body=b"x")
    status, findings = checked(write(), "--no-write")
    assert status == 0 and findings["read"]["ok"] is True


def test_site_that_was_never_started(configured, settings, checked):
    _, write = configured
    status, findings = checked(write())
    assert status == 0
    assert findings["cache-dir"]["detail"].endswith("is made at the first start")
    assert findings["database"]["detail"].endswith("Data.fs is not there yet: the first start makes it")
    assert "the next opening for writing gives it to 'www.example.org'" in findings["owner"]["detail"]
    status, findings = checked(write(owner=""))
    assert (status, findings["owner"]["ok"]) == (0, None)
    assert findings["owner"]["mend"] == "owner: name the site. Example: owner www.example.org"


OTHER_OWNER = b'{"format": 1, "owner": "www.example.com", "layouts": ["ours"]}'


@pytest.mark.parametrize(
    "marker, owner, said, mend, why",
    [
        (OTHER_OWNER, "owner staging", "to 'www.example.com', and owner is 'staging'", "another s3-prefix, or", 0),
        (OTHER_OWNER, "", "belongs to 'www.example.com', and owner is not set", "owner www.example.com, if this is", 0),
        (b"{", "owner www.example.org", "is damaged", "s3-prefix: name the prefix of this site", 1),
        (b'{"format": 2, "owner": "x", "layouts": []}', "owner x", "by a newer release", "upgrade this process", 1),
    ],
)  # fmt: skip
def test_nothing_is_written_into_a_prefix_that_is_not_ours(
    configured, settings, s3, proxy, checked, marker, owner, said, mend, why
):
    """Not even the objects of the checks, which the owner's gc would not know."""
    _, write = configured
    s3.put_object(Bucket=settings.bucket, Key=".s3blobs.json", Body=marker)
    path = write(owner=owner)
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    status, findings = checked(path)
    assert {exchange.method for exchange in proxy.exchanges} <= {"GET", "HEAD"}
    assert bucket_keys(settings) == [".s3blobs.json"]
    assert (status, wrong(findings)) == (1, ["owner"])
    assert said in findings["owner"]["detail"] and mend in findings["owner"]["mend"]
    reason = ["not tried: the prefix belongs to another owner", "not tried: it is not known whose prefix this is"][why]
    asked = {name for name, finding in findings.items() if finding["detail"] != reason}
    read = {"read", "range", "listing", "provider"}
    assert asked == {
        *LOCAL,
        "direct upload",
        "lifecycle",
        "owner",
        "keys",
        *AT_OPEN[: AT_OPEN.index(LAST_BEFORE_WRITING) + 1],
        *read,
    }
    assert findings["listing"]["ok"] is True


def test_an_owner_that_cannot_be_asked_for_is_no_leave_to_write(configured, settings, proxy, checked):
    _, write = configured
    path = write()
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    proxy.fail(faults.answer(403, "AccessDenied"), method="GET", target=".s3blobs.json")
    status, findings = checked(path)
    assert (status, wrong(findings)) == (1, ["owner"])
    assert {exchange.method for exchange in proxy.exchanges} <= {"GET", "HEAD"}
    assert findings["write"]["detail"] == "not tried: it is not known whose prefix this is"


@pytest.mark.parametrize(
    "change, name, said",
    [
        ({"SITE_SECRET_KEY": "wrong-secret-of-test"}, "credentials", "s3-secret-key"),
        ({"SITE_ACCESS_KEY": "AKIAWRONGWRONGWRONG"}, "credentials", "s3-access-key"),
        ("bucket-name {bucket}", "bucket", "bucket-name"),
        ("s3-endpoint-url {endpoint}", "endpoint", "s3-endpoint-url"),
    ],
)
def test_what_is_wrong_with_the_store_is_named_with_its_mend(configured, settings, change, name, said, checked):
    _, write = configured
    path, env = write(), {}
    if isinstance(change, dict):
        env = change
    else:
        old = change.format(bucket=settings.bucket, endpoint=settings.endpoint_url)
        new = {"bucket": "bucket-name no-such-bucket", "endpoint": "s3-endpoint-url http://127.0.0.1:9"}[name]
        path.write_text(path.read_text().replace(old, new))
    status, findings = checked(path, **env)
    assert (status, wrong(findings)) == (1, [name])
    assert said in findings[name]["mend"]
    assert findings["owner"]["detail"] == "not tried: the bucket cannot be read"
    assert "wrong-secret-of-test" not in str(findings)


# What an operator gets wrong, by what a mistake changes of the settings. Others are above and below: wrong secret,
# wrong bucket, endpoint down; folders on other file systems.


def wrong_region(settings, front, **_):
    front.strange.region = "eu-central-1"
    return {"endpoint_url": front.endpoint_url, "region": "us-west-2"}


def clock_off_by_20_minutes(front, **_):
    front.strange.clock, front.strange.refuses_skew = 1200, True
    return {"endpoint_url": front.endpoint_url}


def no_conditional_writes(front, **_):
    front.strange.ignores = ("if-none-match",)
    return {"endpoint_url": front.endpoint_url}


def ignores_sse_c(tls_front, ca, **_):
    tls_front.strange.ignores = ("x-amz-server-side",)
    return {"endpoint_url": tls_front.endpoint_url, "ca_bundle": ca.bundle, "encryption": sse_c(KEY)}


def self_signed(tls_front, **_):
    return {"endpoint_url": tls_front.endpoint_url, "ca_bundle": None}


def bucket_of_somebody_else(s3_server, s3, bucket, **_):
    return a_user(s3_server, s3, bucket, [])


def read_only_user(s3_server, s3, bucket, **_):
    return a_user(s3_server, s3, bucket, ["s3:GetObject", "s3:ListBucket"])


@pytest.mark.parametrize(
    "mistake, name, said, mend",
    [
        (wrong_region, "region", "the bucket is in eu-central-1, not in us-west-2", "s3-region eu-central-1"),
        (clock_off_by_20_minutes, "clock", "20 minutes behind the object store's", "set this machine's clock by NTP"),
        (no_conditional_writes, "conditional writes", "ignores If-None-Match", "open a new prefix with one process"),
        (ignores_sse_c, "encryption", "it keeps objects in clear", "s3-sse-customer-key, <sse-c>: remove"),
        (self_signed, "tls", "signed by nobody that this machine trusts", "s3-ca-bundle"),
        (bucket_of_somebody_else, "bucket", "belongs to somebody else", "bucket-name"),
        (read_only_user, "write", "can be read, but not written", "s3-access-key: let its policy allow s3:PutObject"),
    ],
)
def test_what_is_wrong_is_named_alone_and_with_its_mend(
    mistake, name, said, mend, settings, front, tls_front, ca, s3_server, s3, bucket, tmp_path, checked
):
    place = {"settings": settings, "front": front, "tls_front": tls_front, "ca": ca}
    changed = dataclasses.replace(settings, **mistake(**place, s3_server=s3_server, s3=s3, bucket=bucket))
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
    env = {"SITE_ACCESS_KEY": changed.access_key, "SITE_SECRET_KEY": changed.secret_key}
    if changed.encryption is not None:
        env |= variables_of(changed.encryption)
    path = tmp_path / "site.conf"
    path.write_text(IMPORT + section(changed, tmp_path / "cache", base, name="1"))
    status, findings = checked(path, **env)
    assert (status, wrong(findings)) == (1, [name])
    assert said in findings[name]["detail"]
    assert findings[name]["mend"].startswith(mend)
    assert bucket_keys(settings) == []  # nothing of the checks stays
    assert env["SITE_SECRET_KEY"] not in str(findings)


def test_folders_on_other_file_systems(configured, settings, tmp_path, checked):
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    _, write = configured
    status, findings = checked(write(), TMPDIR=str(shm))
    assert (status, wrong(findings)) == (1, ["one file system"])
    assert findings["one file system"]["mend"].startswith("TMPDIR: ")
    here = {"TMPDIR": str(tmp_path)}
    status, findings = checked(write(), **here, TUS_TMP_FILE_DIR=str(shm / "tus"))
    assert (status, wrong(findings)) == (1, ["one file system"])
    assert findings["one file system"]["mend"].startswith("TUS_TMP_FILE_DIR: ")
    assert checked(write(), **here, TUS_TMP_FILE_DIR=str(tmp_path / "tus"))[0] == 0
    staging = shm / f"s3blobs-test-{os.getpid()}"
    status, findings = checked(write(f"staging-dir {staging}"))
    assert (status, wrong(findings)) == (1, ["one file system"])
    assert findings["one file system"]["mend"].startswith("staging-dir: ")
    assert not staging.exists()


def test_cache_larger_than_the_disk(configured, settings, checked):
    _, write = configured
    status, findings = checked(write("cache-size 900PB"))
    assert (status, wrong(findings)) == (1, ["cache space"])
    mend = findings["cache space"]["mend"]
    assert mend.startswith("cache-size ") and mend.endswith("MB, or a larger disk")
    fits = mend.removeprefix("cache-size ").partition(",")[0]
    assert checked(write(f"cache-size {fits}"))[0] == 0


def test_disk_with_less_free_than_the_cache_leaves(configured, settings, checked):
    _, write = configured
    status, findings = checked(write("cache-min-free 900PB"))
    assert (status, wrong(findings)) == (1, ["cache space"])
    assert findings["cache space"]["mend"].startswith("cache-min-free: less")


def test_cache_that_cannot_be_used(configured, settings, checked):
    site, write = configured
    cache = site.settings.cache_dir
    cache.mkdir()
    cache.chmod(0o777)
    _, findings = checked(write())
    assert (wrong(findings), findings["cache-dir"]["mend"]) == (["cache-dir"], f"cache-dir: chmod o-w {cache}")
    cache.chmod(0o700)
    (cache / ".layout").write_text("bushy")
    _, findings = checked(write())
    assert wrong(findings) == ["cache-dir"]
    assert "is a ZODB blob directory" in findings["cache-dir"]["detail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as two users")
def test_cache_of_another_user(configured, settings, checked, request):
    site, write = configured
    site.open().close()
    path = write()
    entries = (site.settings.cache_dir, *site.settings.cache_dir.rglob("*"))
    for entry in reversed(entries):
        os.chown(entry, 65534, 65534)
    request.addfinalizer(lambda: [os.chown(entry, 0, 0) for entry in entries])  # else pytest cannot remove them
    if os.access(site.settings.cache_dir, os.R_OK):  # not where root's override is taken away, as run.py does
        status, findings = checked(path)
        assert (status, findings["cache-dir"]["ok"]) == (0, None)
        assert findings["cache-dir"]["mend"].startswith("run s3blobs as nobody")
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    command += [SCRIPT, "--config", path, "check"]
    result = subprocess.run(command, env=keys_of(settings), capture_output=True, text=True)
    assert result.returncode == 1
    assert "✗  cache-dir " in result.stdout and "run s3blobs as that user" in result.stdout


def test_database_that_cannot_be_opened_is_named_without_its_password(configured, settings, checked):
    _, write = configured
    dsn = "dsn dbname='plone' user='plone' password='hunter2-database' host=127.0.0.1 port=9"
    path = write(base=f"<relstorage>\n  <postgresql>\n    {dsn}\n  </postgresql>\n</relstorage>")
    path.write_text("%import relstorage\n" + path.read_text())
    status, findings = checked(path)
    assert (status, wrong(findings)) == (1, ["database"])
    assert "<relstorage>" in findings["database"]["mend"]
    assert "hunter2-database" not in str(findings)


def test_database_from_the_future(configured, settings, checked):
    site, write = configured
    storage = FileStorage(str(site.folder / "Data.fs"))
    ahead = TransactionMetaData()
    storage.tpc_begin(ahead, TimeStamp(2099, 1, 1).raw())
    storage.store(z64, z64, b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03}q\x00.", "", ahead)
    storage.tpc_vote(ahead)
    storage.tpc_finish(ahead)
    storage.close()
    status, findings = checked(write())
    assert (status, wrong(findings)) == (1, ["local clock"])
    assert "NTP" in findings["local clock"]["mend"]


@pytest.mark.parametrize("kind", ["sqlite-hp", "zeo-client"])
def test_other_bases_beside_a_running_site(make_site, settings, kind, checked):
    site = make_site(kind, owner="www.example.org")
    commit_blobs(site.db(), one=b"content")
    if kind == "zeo-client":
        base = f"<zeoclient>\n  server 127.0.0.1:{site._zeo[0]}\n  storage main\n</zeoclient>"
    else:
        base = f"<relstorage>\n  <sqlite3>\n    data-dir {site.folder}/sqlite\n  </sqlite3>\n</relstorage>"
    path = site.folder / "site.conf"
    path.write_text(IMPORT + section(settings, site.settings.cache_dir, base, "owner www.example.org", name="1"))
    status, findings = checked(path)
    assert (status, wrong(findings)) == (0, [])
    assert "last transaction is of 20" in findings["database"]["detail"]


def test_configuration_that_cannot_be_read_is_status_2(configured, settings):
    _, write = configured
    path = write("cache-size many")
    result = s3blobs("--config", path, "check", "--json", env=keys_of(settings))
    assert result.returncode == 2
    assert "cache-size 'many' is not a size" in one_line(result)
    assert document(result)["error"].startswith("cache-size 'many'")


def test_interrupt_leaves_nothing_and_ends_with_130(configured, settings, proxy):
    _, write = configured
    path = write()
    path.write_text(path.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    proxy.fail(faults.hang(), method="GET", target=".s3blobs-check")
    command = [SCRIPT, "--config", path, "check", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=keys_of(settings), text=True, **pipes) as process:
        wait_until(lambda: "GET" in proxy.methods(".s3blobs-check"), 60)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert "Traceback" not in complaint
    assert bucket_keys(settings) == []


def test_terminal_without_unicode_gets_words(configured, settings):
    _, write = configured
    result = s3blobs("--config", write(), "check", env=keys_of(settings) | {"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert "✓" not in result.stdout and "\nok  configuration" in result.stdout


def test_each_source_is_looked_at(configured, checked, settings, tmp_path):
    site, write = configured
    blobs = tmp_path / "blobs"
    FilesystemHelper(str(blobs)).create()
    bucket = f"s3-endpoint-url {settings.endpoint_url}\n  s3-region {settings.region}\n"
    if settings.ca_bundle:
        bucket += f"  s3-ca-bundle {settings.ca_bundle}\n"
    keys = "  s3-access-key $(SITE_ACCESS_KEY)\n  s3-secret-key $(SITE_SECRET_KEY)\n</s3source>"
    path = write(
        f"<blobdirsource mounted>\n  path {blobs}\n</blobdirsource>",
        "<blobdirsource away>\n  path /nowhere/at/all\n</blobdirsource>",
        f"<s3source good>\n  bucket-name {settings.bucket}\n  s3-prefix before\n  {bucket}{keys}",
        f"<s3source gone>\n  bucket-name no-such-bucket-here\n  {bucket}{keys}",
        f"<s3source refused>\n  bucket-name {settings.bucket}\n  {bucket}{keys.replace('ACCESS', 'WRONG')}",
    )
    status, found = checked(path, SITE_WRONG_KEY="nobody")
    assert status == 1
    assert list(found)[-5:] == ["source mounted", "source away", "source good", "source gone", "source refused"]
    assert [found[f"source {name}"]["ok"] for name in ("mounted", "away", "good", "gone", "refused")] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert "/nowhere/at/all: The blob directory (path) cannot be read" in found["source away"]["detail"]
    assert "no such bucket (bucket-name)" in found["source gone"]["mend"]
    assert "s3:ListBucket" in found["source refused"]["mend"]
    assert {key for key in bucket_keys(settings) if "before" in key} == set()


def test_a_source_that_needs_the_base_is_looked_at_with_the_base(configured, checked):
    site, write = configured
    folder = site.folder / "relstorage"
    base = (
        f"%import relstorage\n<relstorage>\n  blob-dir {site.folder}/fetched\n  shared-blob-dir off\n"
        f"  <sqlite3>\n    data-dir {folder}\n  </sqlite3>\n</relstorage>"
    )
    path = write("<basesource kept>\n</basesource>", base=base.partition("\n")[2])
    path.write_text("%import relstorage\n" + path.read_text())
    make_empty(folder)
    status, found = checked(path)
    assert found["source kept"]["ok"] is True, found["source kept"]
    path.write_text(path.read_text().replace(f"blob-dir {site.folder}/fetched", ""))
    _, found = checked(path)
    assert found["source kept"]["ok"] is False and "a blob-dir" in found["source kept"]["mend"]
    status, found = checked(path, "--no-base")
    assert (found["source kept"]["ok"], found["source kept"]["detail"]) == (None, "not tried (--no-base)")
