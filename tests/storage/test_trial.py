"""“Try it”: one small object on its whole way, what goes wrong on it, and that nothing of it stays."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import pytest
from rings import client_side
from servers import faults

from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.trial import STEPS, trial


@pytest.fixture
def opened(settings):
    """Opens a store with settings that differ, and closes it after the test."""
    stores = []

    def open_(read_only=False, **changes):
        changes = {"outage_patience": 0.0, "download_read_timeout": 2.0, "read_timeout": 2.0} | changes
        stores.append(open_store(dataclasses.replace(settings, **changes), read_only=read_only))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def left(s3, bucket):
    return [line["Key"] for line in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_each_step_works_and_is_timed(opened, s3, bucket):
    steps = trial(opened())
    assert [(step.name, step.ok) for step in steps] == [(name, True) for name in STEPS]
    assert all(step.seconds > 0 and step.detail for step in steps)
    assert left(s3, bucket) == []


def test_no_step_says_where_the_object_is_or_how_it_is_signed_for(opened, settings):
    told = repr(trial(opened()))
    assert "Signature" not in told and "s3blobs-check" not in told
    assert settings.secret_key not in told and settings.bucket not in told


@pytest.mark.parametrize(
    ("method", "failed", "not_tried"),
    [
        ("PUT", "upload", set(STEPS) - {"upload"}),
        ("GET", "read", set()),
        ("DELETE", "delete", set()),
    ],
)
def test_what_fails_is_said_and_nothing_stays(opened, proxy, s3, bucket, method, failed, not_tried):
    store = opened(endpoint_url=proxy.endpoint_url, download_max_attempts=1)
    proxy.fail(faults.answer(403, "AccessDenied"), method=method)
    steps = {step.name: step for step in trial(store)}
    assert tuple(steps) == STEPS
    assert [name for name in STEPS if steps[name].ok is False] == [failed]
    assert {name for name in STEPS if steps[name].ok is None} == not_tried
    assert steps[failed].detail
    assert all(failed in steps[name].detail for name in not_tried)
    assert left(s3, bucket) == []


def test_a_public_endpoint_that_leads_elsewhere(opened, proxy, s3, bucket):
    proxy.down()
    steps = {step.name: step for step in trial(opened(public_endpoint_url=proxy.endpoint_url))}
    assert [name for name in STEPS if steps[name].ok is False] == ["fetch"]
    assert "s3-public-endpoint-url" in steps["fetch"].detail
    assert left(s3, bucket) == []


def test_with_keys_of_our_own_there_is_no_url_to_try(settings, s3, bucket):
    with closing(open_store(dataclasses.replace(settings, encryption=client_side(bytes(32))))) as store:
        steps = {step.name: step for step in trial(store)}
    assert {name: step.ok for name, step in steps.items()} == {
        "upload": True, "read": True, "sign": None, "fetch": None, "delete": True
    }  # fmt: skip
    assert "a browser must not have the key" in steps["sign"].detail
    assert left(s3, bucket) == []


@pytest.mark.parametrize("how", ["store", "argument"])
def test_where_nothing_may_be_written_nothing_is_asked(opened, proxy, how):
    store = opened(read_only=how == "store", endpoint_url=proxy.endpoint_url)
    steps = trial(store, writable=how == "store")
    assert [step.ok for step in steps] == [None] * len(STEPS)
    assert proxy.exchanges == []
