"""``@blob-fsck`` on a site whose objects were damaged on purpose: what it finds, and what it brings back."""

from __future__ import annotations

import time

import pytest
from damaged_file import DATA, DamagedFile
from web_client import WebClient


@pytest.fixture(scope="module")
def client(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture(scope="module")
def reel(client, site_bucket):
    made = DamagedFile.made(client, site_bucket, "reel")
    yield made
    made.mend()
    client.api("DELETE", made.path, expect=204)


def status(client, job):
    """``fsck`` of the status, once it is of that job: who looks waits for a second at most."""
    until = time.monotonic() + 30
    while True:
        told = client.api("GET", "@blob-storage", expect=200)["fsck"]
        if told and told["job"] == job:
            return told
        assert time.monotonic() < until, told
        time.sleep(0.2)


def test_a_lost_file_is_found_and_brought_back(client, reel):
    before = reel.check()
    reel.lose()
    told = reel.check()
    (finding,) = reel.found_in(told)
    assert finding["kind"] == "missing" and finding["key"] == reel.key.removeprefix("plone/site/")
    assert finding["content"] == {"path": "/with/files/reel", "portal_type": "File", "field": "file", "past": False}
    assert told["items_total"] == before["items_total"] + 1 and "findings" not in told["job"]["result"]
    wrong = status(client, told["job"]["id"])
    assert wrong["wrong"] == told["items_total"] and wrong["found"]["missing"] >= 1 and wrong["deep"] is False

    planned = reel.check(repair=True)
    (finding,) = reel.found_in(planned)
    assert (finding["repair"]["what"], finding["repair"]["origin"]) == ("would be repaired", "cache")
    assert reel.data is None  # a dry run

    done = reel.check(repair=True, dry_run=False)
    (finding,) = reel.found_in(done)
    assert finding["repair"]["what"] == "repaired" and reel.data == DATA
    assert status(client, done["job"]["id"])["wrong"] == before["items_total"]
    assert reel.found_in(reel.check()) == []


def test_the_last_one_is_told_with_its_findings_batched(client, reel):
    reel.lose()
    told = reel.check()
    last = client.api("GET", "@blob-fsck?b_size=1", expect=200)
    assert last["job"]["id"] == told["job"]["id"] and last["running"] is None
    assert (len(last["items"]), last["items_total"]) == (1, told["items_total"])
    behind = client.api("GET", f"@blob-fsck?b_start={told['items_total']}", expect=200)
    assert behind["items"] == []
    assert client.api("DELETE", f"@blob-fsck/{told['job']['id']}", expect=202)["state"] == "done"
    reel.mend()


@pytest.mark.parametrize(
    ("kind", "change"),
    [("truncated", lambda data: data[:-1]), ("wrong-bytes", lambda data: b"X" + data[1:])],
    ids=["truncated", "wrong-bytes"],
)
def test_another_damage(client, reel, kind, change):
    """What only reading tells stays known when a check that does not read finds nothing."""
    reel.replace(change)
    assert [each["kind"] for each in reel.found_in(reel.check(deep=True))] == [kind]
    shallow = reel.check()
    assert [each["kind"] for each in reel.found_in(shallow)] == ([kind] if kind == "truncated" else [])
    assert status(client, shallow["job"]["id"])["earlier"] >= (kind == "wrong-bytes")
    done = reel.check(deep=True, repair=True, dry_run=False)
    assert [each["repair"]["what"] for each in reel.found_in(done)] == ["repaired"] and reel.data == DATA
    assert status(client, done["job"]["id"])["earlier"] == 0
