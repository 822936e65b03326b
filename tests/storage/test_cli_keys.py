"""`s3blobs keys`"""

from __future__ import annotations

import base64
import errno
import os
import stat
import subprocess
import sys

import pytest
from command_line import one_line, s3blobs

from collective.s3blobstorage.cli.command import run
from collective.s3blobstorage.encryption.key_sources import FileKey


def test_generate_prints_a_key_and_nothing_else():
    seen = set()
    for _ in range(2):
        result = s3blobs("keys", "generate")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.count("\n") == 1 and len(base64.b64decode(result.stdout, validate=False)) == 32
        assert len(base64.b64decode(result.stdout.rstrip("\n"), validate=True)) == 32
        seen.add(result.stdout)
    assert len(seen) == 2


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_generate_writes_a_file_that_a_section_takes(tmp_path, capsys, caplog, umask):
    path = tmp_path / "blob-key"
    before = os.umask(umask)
    try:
        assert run(["keys", "generate", "--output", str(path)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = FileKey("k1", path).material(None)
    assert len(key) == 32 and not caplog.records
    printed, complaint = capsys.readouterr()
    assert printed == f"{path}: a new key\n" and complaint == ""
    assert base64.b64encode(key).decode() not in printed


def test_generate_overwrites_nothing(tmp_path):
    path = tmp_path / "blob-key"
    path.write_text("the only copy")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    for name in ("blob-key", "link", "nowhere"):
        result = s3blobs("keys", "generate", "--output", tmp_path / name)
        assert (result.returncode, result.stdout) == (2, "")
        assert "is there already, and may be the only copy of a key; give another name" in one_line(result)
    assert path.read_text() == "the only copy" and not (tmp_path / "none").exists()


def test_generate_says_why_it_cannot_write(tmp_path):
    result = s3blobs("keys", "generate", "--output", tmp_path / "none" / "blob-key")
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot be written: No such file or directory" in one_line(result)
    full = s3blobs("keys", "generate", "--output", "/dev/full")
    assert full.returncode == 2 and "is there already" in one_line(full)


def test_half_a_key_does_not_stay(tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run(["keys", "generate", "--output", str(tmp_path / "blob-key")]) == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_generate_reads_no_configuration_and_imports_no_boto3(tmp_path):
    code = (
        "import sys\nfrom collective.s3blobstorage.cli.command import run\n"
        f"assert run(['--config', {str(tmp_path / 'none.conf')!r}, 'keys', 'generate']) == 0\n"
        "assert not {'boto3', 'botocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
