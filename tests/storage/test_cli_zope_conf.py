"""`s3blobs zope-conf` on files: written as a whole or not at all, with mode and owner, never with a secret shown."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from command_line import SCRIPT, environment, one_line, s3blobs

from collective.s3blobstorage.cli.command import run
from collective.s3blobstorage.cli.configuration import read
from collective.s3blobstorage.cli.zope_conf import checked_values, shown_diff
from collective.s3blobstorage.config_keys import KEYS
from collective.s3blobstorage.errors import ConfigurationError

# Keys whose values are files, which are not on this machine.
FILES = ("s3-ca-bundle", "s3-secret-key-file", "cdn-private-key-file")
NEW = ["--bucket-name", "plone-blobs", "--cache-dir", "/nonexistent/cache"]


@pytest.fixture
def zope_conf(tmp_path) -> Path:
    path = tmp_path / "zope.conf"
    path.write_text(
        f"%define HOME {tmp_path}\ninstancehome $HOME\n\n# all content\n<zodb_db main>\n  mount-point /\n"
        "  <filestorage>\n    path $HOME/Data.fs\n    blob-dir $HOME/blobs\n  </filestorage>\n</zodb_db>\n"
    )
    return path


def test_file_is_replaced_with_mode_and_owner_and_kept_as_it_was(zope_conf):
    zope_conf.chmod(0o640)
    before = zope_conf.read_text()
    os.chown(zope_conf, os.geteuid(), os.getegid())
    link = zope_conf.with_name("link.conf")
    link.symlink_to(zope_conf.name)
    result = s3blobs("zope-conf", link, *NEW, "--owner", "www.example.org")
    assert (result.returncode, result.stderr) == (0, "")
    assert link.is_symlink() and stat.S_IMODE(zope_conf.stat().st_mode) == 0o640
    [backup] = zope_conf.parent.glob("*.bak-*")
    assert str(backup) in result.stdout
    assert (backup.read_text(), stat.S_IMODE(backup.stat().st_mode)) == (before, 0o640)
    [database] = read(zope_conf)
    assert (database.settings.owner, database.settings.store.bucket) == ("www.example.org", "plone-blobs")
    assert database.base_type == "filestorage"

    result = s3blobs("zope-conf", link, *NEW, "--owner", "www.example.org")
    assert (result.returncode, result.stdout) == (0, f"{link}: nothing to change\n")
    assert sorted(entry.name for entry in zope_conf.parent.iterdir()) == sorted(["zope.conf", "link.conf", backup.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_owner_is_kept(zope_conf):
    os.chown(zope_conf, 65534, 65534)
    assert run(["zope-conf", str(zope_conf), *NEW]) == 0
    owners = {(entry.stat().st_uid, entry.stat().st_gid) for entry in zope_conf.parent.glob("zope.conf*")}
    assert owners == {(65534, 65534)}


def test_dry_run_shows_a_diff_and_writes_nothing(zope_conf, capsys):
    before = zope_conf.read_text()
    keys = ["--s3-access-key", "AKIA", "--s3-secret-key", "$(SITE_SECRET)"]
    assert run(["zope-conf", str(zope_conf), "--dry-run", *NEW, *keys]) == 0
    printed, complaint = capsys.readouterr()
    assert printed.startswith(f"--- {zope_conf}\n+++ {zope_conf} (changed)\n@@ ")
    added = {"+%import collective.s3blobstorage", "+    s3-secret-key $(SITE_SECRET)", "+      # blob-dir $HOME/blobs"}
    assert added <= set(printed.splitlines())
    assert (zope_conf.read_text(), list(zope_conf.parent.iterdir())) == (before, [zope_conf])
    assert complaint == "s3blobs: not checked, since not set here: SITE_SECRET\n"


def test_no_backup(zope_conf):
    assert run(["zope-conf", str(zope_conf), *NEW, "--no-backup"]) == 0
    assert list(zope_conf.parent.iterdir()) == [zope_conf]


@pytest.mark.parametrize(
    "inner, what",
    [
        ("<filestorage>\npath @/Data.fs\nblob-dir $HOME/blobs\n</filestorage>", "holds blobs, which are not in the"),
        ("<zeoclient>\nserver 9\nblob-dir $HOME/blobs\n</zeoclient>", "is a cache of blobs that the ZEO server keeps"),
        ("<zeoclient>\nserver 9\nblob-dir $HOME/blobs\nshared-blob-dir on\n</zeoclient>", "holds blobs"),
        ("<relstorage>\nblob-dir $HOME/blobs\n<sqlite3>\ndata-dir @\n</sqlite3>\n</relstorage>", "the database keeps"),
    ],
)
def test_blobs_that_are_there_are_not_left_behind(tmp_path, capsys, inner, what):
    path = tmp_path / "site.conf"
    path.write_text(f"%define ROOT {tmp_path}\n%define HOME $ROOT/home\n{inner}\n".replace("@", str(tmp_path)))
    before = path.read_text()
    blobs = tmp_path / "home" / "blobs"
    (blobs / "tmp").mkdir(parents=True)
    (blobs / ".layout").write_text("bushy")
    assert run(["zope-conf", str(path), "--dry-run", *NEW]) == 0  # none in it
    (blobs / "0x00" / "0x01").mkdir(parents=True)
    (blobs / "0x00" / "0x01" / "0x03c4.blob").write_bytes(b"content")
    for arguments in ([], ["--dry-run"]):
        capsys.readouterr()
        assert run(["zope-conf", str(path), *NEW, *arguments]) == 2
        complaint = capsys.readouterr().err
        assert f"the folder {blobs}, blob-dir $HOME/blobs of <" in complaint and what in complaint
        assert "repeat with --blobs-migrated; or give --blobs-stay" in complaint and complaint.count("\n") == 1
        assert path.read_text() == before
    assert run(["zope-conf", str(path), *NEW, "--blobs-migrated", "--blobs-stay"]) == 2
    assert "are two ways" in capsys.readouterr().err
    assert run(["zope-conf", str(path), *NEW, "--blobs-migrated"]) == 0
    assert "# blob-dir $HOME/blobs" in path.read_text()
    path.write_text(before)
    assert run(["zope-conf", str(path), *NEW, "--blobs-stay"]) == 0
    [database] = read(path)
    assert len(database.settings.sources) == 1


def test_blob_dir_that_cannot_be_resolved_is_refused(tmp_path, capsys):
    path = tmp_path / "site.conf"
    path.write_text("<zeoclient>\nserver 9\nblob-dir $(S3BLOBS_TEST_NOT_SET)/blobs\n</zeoclient>\n")
    assert run(["zope-conf", str(path), *NEW]) == 2
    assert "cannot be seen (no replacement for 'S3BLOBS_TEST_NOT_SET')" in capsys.readouterr().err


def test_variables_that_are_not_set_are_named(zope_conf):
    result = s3blobs("zope-conf", zope_conf, *NEW, "--s3-region", "$(S3BLOBS_TEST_REGION)", env=environment())
    assert result.returncode == 0
    assert one_line(result) == "s3blobs: not checked, since not set here: S3BLOBS_TEST_REGION"


def test_a_result_that_zconfig_refuses_is_not_written(zope_conf, capsys):
    zope_conf.write_text(zope_conf.read_text().replace("    path $HOME/Data.fs", "    pathh x"))
    before = zope_conf.read_text()
    assert run(["zope-conf", str(zope_conf), *NEW]) == 2
    complaint = capsys.readouterr().err
    assert "nothing was written, since the result would not be read: 'pathh' is not a known key name" in complaint
    assert (zope_conf.read_text(), list(zope_conf.parent.iterdir())) == (before, [zope_conf])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--bucket-name", "A"], "bucket-name 'A' is not the name of a bucket. Allowed: "),
        (["--owner", "a\nb"], "--owner holds a line end"),
        (["--s3-secret-key", "hunter2hunter2"], "would put a secret into the file"),
        (["--s3-sse-customer-key", "hunter2hunter2"], "Example: --s3-sse-customer-key '$(S3_SSE_KEY)'"),
        (["--s3-session-token", "$(A) hunter2hunter2"], "--s3-session-token would put a secret"),
        (["--database", "other"], "--database 'other' is not in the file"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_options(zope_conf, capsys, arguments, message):
    assert run(["zope-conf", str(zope_conf), *NEW, *arguments]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint and "hunter2hunter2" not in complaint
    assert list(zope_conf.parent.iterdir()) == [zope_conf]


def test_every_key_is_an_option(capsys):
    assert run(["zope-conf", "--help"]) == 0
    help_text = capsys.readouterr().out
    for name in KEYS:
        assert f"--{name} " in help_text or f"--{name}\n" in help_text
    examples = {name: key.example for name, key in KEYS.items() if name not in FILES}
    assert checked_values(examples) == examples
    with pytest.raises(ConfigurationError, match="s3-ca-bundle '/nonexistent' does not exist"):
        checked_values({"s3-ca-bundle": "/nonexistent"})


def test_missing_file_and_file_that_is_not_text(tmp_path, capsys):
    assert run(["zope-conf", str(tmp_path / "none.conf"), *NEW]) == 2
    assert "none.conf cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe")
    assert run(["zope-conf", str(tmp_path / "binary.conf"), *NEW]) == 2
    assert "is not encoded as UTF-8" in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_named(zope_conf):
    zope_conf.parent.chmod(0o555)
    command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    before = zope_conf.read_text()
    result = subprocess.run([*command, SCRIPT, "zope-conf", zope_conf, *NEW], capture_output=True, text=True)
    zope_conf.parent.chmod(0o755)
    assert (result.returncode, zope_conf.read_text()) == (2, before)
    assert "cannot be written: Permission denied; or give --no-backup" in one_line(result)


SECRETS = """\
s3-access-key AKIAIOSFODNN7
  s3-secret-key hunter2-hunter2
S3-Session-Token hunter2-token
s3-sse-customer-key aHVudGVyMg==
  value aHVudGVyMg==
  command /bin/echo hunter2
password hunter2-zeo
# passwd hunter2-mysql
dsn dbname='plone' user='p' password='hunter2 dsn' host=h
dsn postgresql://plone:hunter2-url@db/plone
"""


def test_diff_shows_no_secret():
    lines = list(shown_diff(SECRETS, SECRETS.replace("hunter2", "HUNTER3") + "owner x", "f"))
    text = "".join(lines)
    for secret in ("unter2", "UNTER3", "aHVudGVyMg", "AKIAIOSFODNN7"):
        assert secret not in text
    assert "host=h" in text and "postgresql://plone:(value not shown)@db/plone" in text
    assert text.endswith("+owner x\n\\ No newline at end of file\n")
    assert "$(KEY)" in "".join(shown_diff("", "s3-secret-key $(KEY)\n", "f"))
