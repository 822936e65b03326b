"""Whoever has a presigned URL has the object: it shows itself to nobody who does not ask for just that."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from datetime import UTC, datetime

import pytest

from collective.s3blobstorage.objectstore.presigned import Presigned

SECRET = "0123456789abcdef"
UNTIL = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


@pytest.fixture
def presigned():
    url = f"https://s3.example.org/bucket/key?X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}"
    return Presigned("GET", url, UNTIL, {"x-amz-meta-a": SECRET}, {"policy": SECRET, "x-amz-signature": SECRET})


@pytest.mark.parametrize(
    "shown", [repr, str, "{}".format, "{:>200}".format, "%s".__mod__, "%r".__mod__, lambda each: repr([each])]
)
def test_no_way_to_show_it_shows_the_signature(presigned, shown):
    text = shown(presigned)
    assert SECRET not in text
    assert "https://s3.example.org/bucket/key until 2026-11-26T12:30:00Z" in text


def test_nor_does_a_log_with_or_without_a_traceback(presigned, caplog):
    try:
        raise ValueError(presigned)
    except ValueError:
        logging.getLogger("any").exception("what %s, %r", presigned, {"a": presigned})
    assert SECRET not in caplog.text
    assert "s3.example.org" in caplog.text


@pytest.mark.parametrize("keep", [*(lambda p, n=n: pickle.dumps(p, n) for n in range(6)), copy.copy, copy.deepcopy])
def test_it_is_not_pickled(presigned, keep):
    with pytest.raises(TypeError, match="a presigned URL is not pickled"):
        keep(presigned)


def test_nor_does_it_become_json(presigned):
    with pytest.raises(TypeError):
        json.dumps(presigned)


def test_it_is_there_for_whoever_asks(presigned):
    assert presigned.url.endswith(f"&X-Amz-Signature={SECRET}")
    assert presigned.fields["x-amz-signature"] == SECRET
