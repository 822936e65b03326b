"""What the services about jobs and status make of what the contracts give: batches, errors, addresses.

Of what a real store gives after days only, as sixty candidates, or a job that runs while another one is asked for.
``tests/plone/site/test_rest_services.py`` has the same services on real ones, over HTTP.
"""

from __future__ import annotations

import pytest
from contract_blobs import Jobs, Status
from plone.app.testing import SITE_OWNER_NAME

from collective.s3blobstorage.errors import Refused, Unavailable

SITE = "http://nohost/plone"


@pytest.fixture
def jobs():
    return Jobs(why_not={"migrate": "there is no <blobdirsource>"})


@pytest.fixture
def status():
    keys = [{"id": f"key-{number}"} for number in range(30)]
    return Status(encryption={"mode": "client-side", "required": True, "active_key": "key-0", "keys": keys})


def test_a_plan_its_candidates_and_its_execution(call, jobs):
    code, planned, headers = call("POST", "@blob-gc", {"allow": 0.5})
    assert code == 202 and headers["location"] == planned["@id"] == f"{SITE}/@blob-gc/{planned['id']}"
    assert jobs.started == [("gc", {"dry_run": True, "plan": None, "allow": 0.5}, SITE_OWNER_NAME)]
    code, seen, _ = call("GET", f"@blob-gc/{planned['id']}")
    assert (code, seen["items_total"], len(seen["items"]), seen["items"][0]["key"]) == (200, 60, 25, "blobs/0")
    assert seen["@id"] == planned["@id"] and seen["result"]["objects"] == 3 and seen["state"] == "done"
    _, last, _ = call("GET", f"@blob-gc/{planned['id']}?b_start=50&b_size=25")
    assert [one["size"] for one in last["items"]] == list(range(50, 60))
    assert f"@blob-gc/{planned['id']}?b_start=25" in last["batching"]["prev"] and "next" not in last["batching"]
    assert call("GET", f"@blob-gc/{planned['id']}?b_start=600")[1]["items"] == []
    plan = seen["result"]["plan"]
    code, run, _ = call("POST", "@blob-gc", {"dry_run": False, "plan": plan})
    assert code == 202 and run["state"] == "running" and run["progress"]["total_bytes"] == 30
    assert call("GET", f"@blob-gc/{run['id']}")[1]["items_total"] == 60  # of the plan that it executes
    for service, body in (("@blob-gc", {"dry_run": False, "plan": plan}), ("@blob-jobs", {"kind": "gc"})):
        code, told, _ = call("POST", service, body)
        assert code == 409 and told["error"]["job"] == f"{SITE}/{service}/{run['id']}"
        assert told["error"]["message"].startswith(f"a job of the kind gc runs: {run['id']}")
    code, stopped, _ = call("DELETE", f"@blob-gc/{run['id']}")
    assert code == 202 and stopped["state"] == "cancelled" and stopped["cancelling"]
    assert call("DELETE", f"@blob-gc/{run['id']}")[0] == 202  # has ended: no error
    _, listed, _ = call("GET", "@blob-gc?b_size=1")
    assert listed["items"][0]["id"] == run["id"] and listed["items_total"] == 2
    assert "b_start=1" in listed["batching"]["next"] and [one["name"] for one in listed["kinds"]] == ["gc"]


def test_a_plan_that_is_kept_no_longer(call, jobs):
    _, planned, _ = call("POST", "@blob-gc", {})
    jobs.plans.clear()
    _, seen, _ = call("GET", f"@blob-gc/{planned['id']}")
    assert seen["state"] == "done" and seen["items_total"] is None and seen["items"] == []
    code, told, _ = call("POST", "@blob-gc", {"dry_run": False, "plan": planned["result"]["plan"]})
    assert code == 400 and told["error"]["field"] == "plan" and len(jobs.started) == 1


def test_what_cannot_be_started_here(call, jobs):
    code, told, _ = call("POST", "@blob-jobs", {"kind": "migrate"})
    assert code == 409 and told["error"] == {"type": "Conflict", "message": "there is no <blobdirsource>"}
    _, listed, _ = call("GET", "@blob-jobs")
    assert {one["name"]: one["why_not"] for one in listed["kinds"]}["migrate"] == "there is no <blobdirsource>"
    assert jobs.started == []


def test_a_job_is_found_at_the_service_of_its_kind(call):
    _, job, _ = call("POST", "@blob-jobs", {"kind": "rotate"})
    assert call("GET", f"@blob-jobs/{job['id']}")[1] == job
    for method in ("GET", "DELETE"):
        assert call(method, f"@blob-gc/{job['id']}")[0] == 404
    assert call("GET", "@blob-jobs?kind=mirror")[1]["items"] == []
    assert call("GET", "@blob-jobs?kind=rotate")[1]["items_total"] == 1


@pytest.mark.parametrize(("error", "code"), [(Unavailable("The store is out."), 503), (Refused("It refuses."), 502)])
def test_a_store_that_fails(call, jobs, error, code):
    _, job, _ = call("POST", "@blob-jobs", {"kind": "count"})
    jobs.failure = error
    for method, path, body in (
        ("GET", "@blob-jobs", None),
        ("GET", f"@blob-jobs/{job['id']}", None),
        ("POST", "@blob-jobs", {"kind": "count"}),
        ("POST", "@blob-gc", {}),
        ("DELETE", f"@blob-jobs/{job['id']}", None),
    ):
        status, told, _ = call(method, path, body)
        assert status == code and told["error"]["message"] == str(error)


def test_the_database_stays_in_every_address(call):
    query = "?database=some-other"
    code, job, headers = call("POST", f"@blob-jobs{query}", {"kind": "count"})
    assert code == 202 and headers["location"] == job["@id"] == f"{SITE}/@blob-jobs/{job['id']}{query}"
    _, listed, _ = call("GET", f"@blob-jobs{query}&b_size=1")
    assert listed["@id"] == f"{SITE}/@blob-jobs{query}" and listed["items"][0]["@id"] == job["@id"]


def test_keys_are_batched(call):
    _, told, _ = call("GET", "@blob-storage?b_start=25")
    assert told["encryption"]["keys_total"] == 30 and told["encryption"]["active_key"] == "key-0"
    assert [key["id"] for key in told["encryption"]["keys"]] == [f"key-{number}" for number in range(25, 30)]
    assert "b_start=0" in told["batching"]["first"]


def test_a_check_is_run_once_and_told(call, status):
    code, told, _ = call("POST", "@blob-storage/check", {})
    assert code == 200 and told["check"]["ok"] is True and status.checks == 1
    assert call("GET", "@blob-storage")[1]["check"] == told["check"] and status.checks == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"CONTENT_TYPE": "text/plain"},
        {"HTTP_ORIGIN": "https://evil.example.com"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
    ],
)
def test_a_foreign_page_stops_nothing_that_runs(call, jobs, headers):
    _, job, _ = call("POST", "@blob-jobs", {"kind": "mirror", "dry_run": False})
    for path in (f"@blob-jobs/{job['id']}", f"@blob-gc/{job['id']}"):
        assert call("DELETE", path, **headers)[0] in (403, 415)
    for path, body in (
        ("@blob-jobs", {"kind": "rotate", "dry_run": False}),
        ("@blob-gc", {}),
        ("@blob-storage/check", {}),
    ):
        assert call("POST", path, body, **headers)[0] in (403, 415)
    assert call("GET", f"@blob-jobs/{job['id']}")[1]["state"] == "running" and len(jobs.started) == 1
