"""The file of ``metrics-token-file``: what is a token, who is let in, and that it is read again where it changed."""

from __future__ import annotations

import logging
import os
import secrets

import pytest

from collective.s3blobstorage import metrics_token
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.metrics_token import TokenFile, read_token

TOKEN = secrets.token_hex(16)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"  {TOKEN} \r\n", "A-._~+/09" * 2 + "=="])
def test_a_token(file, text):
    file.write_text(text)
    assert read_token(file) == text.strip()
    assert TokenFile(file).admits(text.strip())


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "is empty"), (" \n", "is empty"), ("x" * 15, "holds no token"), (f"{TOKEN}\n{TOKEN}", "holds no token"),
        ("x" * 16 + "ä", "holds no token"), ("x" * 1025, "holds no token"), ("x" * 10**6, "holds more than"),
    ],
    ids=["empty", "blank", "short", "two", "umlaut", "long", "huge"],
)  # fmt: skip
def test_no_token(file, text, reason):
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        read_token(file)
    assert "metrics-token-file" in str(caught.value) and "Example: openssl rand" in str(caught.value)
    assert not text.strip() or text.strip() not in str(caught.value)
    for token in ("", "None", text, text.strip()):
        assert not TokenFile(file).admits(token)


def test_what_is_no_file_of_ours(file, tmp_path):
    file.chmod(0o622)
    with pytest.raises(ConfigurationError, match="may be written by others"):
        read_token(file)
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_token(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="is a folder|is not a file"):
        read_token(tmp_path)


@pytest.mark.parametrize("wrong", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper() + "Q", "ä" * 32, "\ud800", "\0"])
def test_another_token(file, wrong):
    assert not TokenFile(file).admits(wrong)


def test_it_is_read_where_it_changed_and_only_there(file, monkeypatch):
    tokens = TokenFile(file)
    assert tokens.admits(TOKEN)
    reads = []
    real = metrics_token.read_token
    monkeypatch.setattr(metrics_token, "read_token", lambda path: reads.append(path) or real(path))
    for _ in range(10):
        assert tokens.admits(TOKEN)
    assert reads == []
    other = secrets.token_hex(16)
    new = file.with_name("new")
    new.write_text(other)
    new.chmod(0o600)
    os.replace(new, file)  # as Kubernetes and careful programs do it
    assert not tokens.admits(TOKEN) and tokens.admits(other)
    file.unlink()
    assert not tokens.admits(other)
    assert len(reads) == 2


def test_what_is_wrong_is_logged_once_and_mended_by_a_mode(file, caplog):
    file.chmod(0o622)
    tokens = TokenFile(file)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            assert not tokens.admits(TOKEN)
    assert len(caplog.records) == 1 and "may be written by others" in caplog.text and TOKEN not in caplog.text
    file.chmod(0o600)
    assert tokens.admits(TOKEN)
    assert TOKEN not in repr(tokens)
