"""Credentials that may not delete: what an abort leaves stays in the bucket, and the log says so once."""

from __future__ import annotations

import dataclasses
import logging
import math
import os

import pytest
from servers.faults import answer
from sites import Against, connected
from ZODB.blob import Blob

from collective.s3blobstorage.objectstore.preflight import FOLDER


def abort_with_blobs(db, count: int) -> None:
    """A transaction whose objects are in the bucket when it is aborted, in its vote."""

    with connected(db) as connection:
        for number in range(count):
            connection.root()[f"b{number}"] = Blob(os.urandom(1000))
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError):
            connection.transaction_manager.commit()


def test_a_refused_cleanup_is_logged_once(make_site, settings, proxy, caplog):
    site = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    db = site.db()
    for method, target in (("DELETE", "/blobs/"), ("POST", "?delete")):
        proxy.fail(answer(403, "AccessDenied"), method=method, target=target, times=math.inf)
    caplog.set_level(logging.INFO)
    for count in (1, 1, 3, 2):
        abort_with_blobs(db, count)
        db.storage.uploads.settle()
    assert len(site.keys()) == 7, "nothing of them was deleted"
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in told] == ["WARNING"], [record.getMessage() for record in told]
    assert "stay until gc" in told[0].getMessage() and "s3:DeleteObject" in told[0].getMessage()
    exchanges = [exchange for exchange in proxy.exchanges if FOLDER not in exchange.path]
    assert {exchange.status for exchange in exchanges if "elete" in exchange.operation} == {403}
    # With the right to delete an abort leaves nothing of its own again.
    proxy.forgive()
    abort_with_blobs(db, 1)
    db.storage.uploads.settle()
    assert len(site.keys()) == 7
