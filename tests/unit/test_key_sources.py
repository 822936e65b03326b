"""Where keys come from: a value, a file, a program; what cannot be had is said in one sentence without a byte of it."""

from __future__ import annotations

import base64
import logging
import os
import signal
import stat
import sys
import time

import pytest
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption import key_sources
from collective.s3blobstorage.encryption.interfaces import IKeyProvider
from collective.s3blobstorage.encryption.key_sources import CommandKey, FileKey, KMSKey, ValueKey
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.errors import ConfigurationError, Unavailable

KEY = bytes(range(100, 132))
TEXT = base64.b64encode(KEY).decode()


def printing(text: str) -> CommandKey:
    return python(f"print({text!r})")


def python(program: str) -> CommandKey:
    return CommandKey("k1", [sys.executable, "-c", program])


def refused(provider, error=ConfigurationError) -> str:
    with pytest.raises(error) as raised:
        provider.material(None)
    message = str(raised.value)
    assert TEXT not in message and TEXT[:8] not in message and "k1" in message
    return message


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "key"
    place.write_text(TEXT + "\n")
    place.chmod(0o600)
    return place


def test_contract(path):
    kms = KMSKey("k1", "alias/x", region=None, endpoint_url=None, profile=None)
    for provider in (ValueKey("k1", KEY, "value"), FileKey("k1", path), printing(TEXT), kms):
        assert verifyObject(IKeyProvider, provider)
        assert TEXT not in repr(provider) and repr(KEY) not in repr(provider) and "k1" in repr(provider)
        assert provider.keeps is (provider is kms)


def test_what_is_read_is_no_key_that_can_be_made(path):
    for provider in (ValueKey("k1", KEY, "value"), FileKey("k1", path), printing(TEXT)):
        with pytest.raises(ConfigurationError, match="s3blobs keys generate"):
            provider.make()


def test_each_gives_the_bytes_and_they_show_themselves_nowhere(path):
    for provider in (ValueKey("k1", KEY, "value"), FileKey("k1", path), printing(TEXT), printing(f"  {TEXT[:-1]}")):
        found = provider.material(None)
        assert (found, repr(found)) == (KEY, "<secret>")


# Files


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_for_the_site_alone(path, mode, caplog):
    path.chmod(mode)
    assert FileKey("k1", path).material(None) == KEY
    assert not caplog.records


def test_a_secret_of_kubernetes_is_a_link_that_all_may_read(path, tmp_path, caplog):
    path.chmod(0o644)
    link = tmp_path / "mounted"
    link.symlink_to(path)
    with caplog.at_level(logging.WARNING):
        assert FileKey("k1", link).material(None) == KEY
    assert f"<key k1>: file {link} may be read by every user of this machine (mode 0644)" in caplog.text
    assert TEXT not in caplog.text


def test_a_file_is_read_when_the_key_is_needed_and_not_before(path):
    provider = FileKey("k1", path)
    path.unlink()
    assert "does not exist" in refused(provider)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        (TEXT + "\n" + TEXT, "is not base64"),
        (KEY.hex(), "is 64 hex digits, not base64"),
        (TEXT[:-4], "bytes in base64, not 32"),
        ("ü", "has letters outside ASCII"),
        (TEXT * 200, "holds more than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_key(path, content, reason):
    path.write_text(content)
    message = refused(FileKey("k1", path))
    assert reason in message and str(path) in message and "s3blobs keys generate" in message


def test_a_file_that_others_may_write(path):
    path.chmod(0o620)
    assert "may be written by others (mode 0620); chmod 600" in refused(FileKey("k1", path))


def test_a_file_that_is_none(tmp_path):
    assert "is a folder" in refused(FileKey("k1", tmp_path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is not a file" in refused(FileKey("k1", tmp_path / "fifo"))
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


# Programs


def test_a_program_that_fails_says_why_but_never_what_it_printed():
    program = f"import sys; print({TEXT!r}); print('no such \\x1b[31msecret\\nmore', file=sys.stderr); sys.exit(3)"
    message = refused(python(program))
    assert message == f"<key k1>: command {sys.executable} ended with 3: no such [31msecret"
    assert refused(python("raise SystemExit(4)")).endswith(" ended with 4")
    assert refused(python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")).endswith(
        f" ended with {-signal.SIGTERM}"
    )


@pytest.mark.parametrize(
    ("text", "reason"), [("", "is empty"), ("nothing here", "is not base64"), (TEXT[:-8], "bytes in base64, not 32")]
)
def test_a_program_that_prints_no_key(text, reason):
    message = refused(printing(text))
    assert reason in message and sys.executable in message and "print(" not in message


def test_a_program_that_is_not_there(tmp_path):
    message = refused(CommandKey("k1", [str(tmp_path / "none"), TEXT]))
    assert "cannot be run: No such file or directory; give the program's whole path" in message


def test_what_it_is_called_with_is_not_shown():
    provider = CommandKey("k1", ["/bin/echo", TEXT])
    assert TEXT not in provider.source + repr(provider)
    assert provider.material(None) == KEY


def test_no_shell(tmp_path):
    assert CommandKey("k1", ["/bin/echo", TEXT, ";", "touch", str(tmp_path / "x")]).source == "command /bin/echo"
    refused(CommandKey("k1", ["/bin/echo", "$(id)"]))
    assert not list(tmp_path.iterdir())


def test_a_program_that_does_not_end_is_ended_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(key_sources, "SECONDS", 1.0)
    pid = tmp_path / "pid"
    program = f"""
import subprocess, time
with open({str(pid)!r}, "w") as file:
    file.write(str(subprocess.Popen(["sleep", "60"]).pid))
time.sleep(60)
"""
    assert refused(python(program), Unavailable).endswith(" did not end within 1 s")
    child = int(pid.read_text())
    until = time.monotonic() + 10
    while _runs(child):  # init takes it over and waits for it
        assert time.monotonic() < until
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# In a ring


def test_one_key_under_two_ids_is_refused(path):
    ring = KeyRing([ValueKey("old", KEY, "value"), FileKey("new", path)], "new")
    with pytest.raises(ConfigurationError, match="the keys old and new are the same; .*s3blobs keys generate"):
        ring.load()
    assert ring.key("old").material == KEY  # the first stays good
