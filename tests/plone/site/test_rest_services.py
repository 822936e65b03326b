"""``@blob-storage``, ``@blob-gc`` and ``@blob-jobs`` over HTTP: who may what, in sites of one database, in another
database of the same Zope, and in one without a bucket."""

from __future__ import annotations

import time

import pytest
from rest_examples import exchanges, form
from rest_sites import FOREIGN, ROLES, SITES

pytestmark = pytest.mark.one_release

USERS = (None, *ROLES, "root")


# A database without a bucket


def test_a_site_without_a_bucket_says_why_and_what_to_write(sites):
    told = sites.ask("plain/site", "root", "GET", "@blob-storage").json
    assert (told["database"], told["available"], told["reduced"]) == ("plain", False, False)
    assert "'plain' has no <s3blobstorage>" in told["reason"]
    snippet = told["snippet"]
    assert "<zodb_db plain>" in snippet and "s3-prefix plain\n" in snippet and "<blobdirsource>" in snippet
    assert f"path {sites.instance.home}/var/plain.fs" in snippet and "bucket-name plone-blobs" in snippet
    assert {name for name, value in told.items() if value is None} >= {"store", "figures", "cache", "jobs"}


def test_its_managers_see_the_reason_and_no_path(sites):
    for user in ("Site Administrator", "Manager"):
        told = sites.ask("plain/site", user, "GET", "@blob-storage")
        assert told.json["available"] is False and told.json["reduced"] is True and told.json["snippet"] is None
        assert "has no <s3blobstorage>" in told.json["reason"]
        assert str(sites.instance.home).encode() not in told.body


# Who may what. 401 and 403 are both a refusal: Plone answers 401 where its own check of a service's permission fails.

OPERATE = [
    ("POST", "@blob-storage/check", {}, (200,)),
    ("GET", "@blob-gc", None, (200,)),
    ("POST", "@blob-gc", {}, (202, 409)),  # 409 where one runs
    ("GET", "@blob-gc/gc-0", None, (404,)),
    ("DELETE", "@blob-gc/gc-0", None, (404,)),
    ("GET", "@blob-fsck", None, (200,)),
    ("POST", "@blob-fsck", {}, (202, 409)),
    ("GET", "@blob-fsck/fsck-0", None, (404,)),
    ("DELETE", "@blob-fsck/fsck-0", None, (404,)),
    ("GET", "@blob-jobs", None, (200,)),
    ("POST", "@blob-jobs", {"kind": "count"}, (202, 409)),
    ("GET", "@blob-jobs/gc-0", None, (404,)),
    ("DELETE", "@blob-jobs/gc-0", None, (404,)),
]


def jobs_of(sites, site):
    return sites.ask(site, "root", "GET", "@blob-jobs").json["items_total"]


def may_operate(site, user):
    return user == "root" or (site == "second/site" and user == "Manager")


@pytest.mark.parametrize("site", ["one", "second/site"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(("method", "path", "body", "status"), OPERATE, ids=lambda part: str(part))
def test_who_may_operate(sites, site, user, method, path, body, status):
    """A site's own Manager only where the section has site-operations on; else nothing is told and nothing starts."""
    before = jobs_of(sites, site)
    answer = sites.ask(site, user, method, path, body)
    if may_operate(site, user):
        assert answer.status in status, answer.body
    else:
        assert answer.status in (401, 403), answer.body
        assert b"example.org" not in answer.body and jobs_of(sites, site) == before


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("user", USERS)
def test_who_sees_the_status(sites, site, user):
    answer = sites.ask(site, user, "GET", "@blob-storage")
    if user not in ("Site Administrator", "Manager", "root"):
        assert answer.status in (401, 403)
        return
    told = answer.json
    assert answer.status == 200 and answer.headers.get_all("Cache-Control") == ["no-store"]
    assert told["database"] == SITES[site] and told["available"] is (site != "plain/site")
    whole = may_operate(site, user)
    assert told["reduced"] is not whole
    known = [one["name"] for one in told["databases"]]
    if user == "root":
        assert known[0] == "main" and set(known) >= {"main", "second", "plain"}
    else:
        assert known == [SITES[site]]
    if site == "plain/site":
        return
    assert told["encryption"]["mode"] == "none" and told["reachable"] is True
    if whole:
        assert told["store"]["prefix"] == SITES[site] and told["cache"]["folder"]
    else:
        assert told["store"] is told["cache"] is told["figures"] is told["jobs"] is told["base"] is None
        assert set(told["encryption"]) == {"mode", "required"}
        for secret in (b"example.org", str(sites.instance.home).encode(), sites.bucket.encode(), b"127.0.0.1"):
            assert secret not in answer.body


@pytest.mark.parametrize("user", [*ROLES, None])
@pytest.mark.parametrize("site", ["one", "second/site", "plain/site"])
@pytest.mark.parametrize("database", ["main", "second", "plain", "temporary", "none", ""])
def test_another_database_is_the_roots_alone(sites, site, user, database):
    """A name that zope.conf does not have is refused as one that it has."""
    if SITES[site] == database:
        return
    for method, path, body, _ in (*OPERATE, ("GET", "@blob-storage", None, (200,))):
        answer = sites.ask(site, user, method, f"{path}?database={database}", body)
        assert answer.status in (401, 403), (method, path, answer.body)
        assert b"temporary" not in answer.body.replace(b"database=temporary", b"")


def test_the_root_asks_for_each_database_from_any_site(sites):
    for site in SITES:
        for database in ("main", "second", "plain"):
            told = sites.ask(site, "root", "GET", f"@blob-storage?database={database}").json
            assert told["database"] == database and told["available"] is (database != "plain")
    answer = sites.ask("one", "root", "GET", "@blob-storage?database=none")
    assert answer.status == 404 and "zope.conf has no database 'none'" in answer.json["error"]["message"]
    answer = sites.ask("one", "root", "POST", "@blob-jobs?database=plain", {"kind": "count"})
    assert answer.status == 409 and "has no <s3blobstorage>" in answer.json["error"]["message"]


# Foreign pages

CHANGING = [
    ("POST", "@blob-storage/check", {}),
    ("POST", "@blob-gc", {}),
    ("POST", "@blob-fsck", {"repair": True, "dry_run": False}),
    ("POST", "@blob-jobs", {"kind": "mirror", "dry_run": False}),
    ("DELETE", "@blob-jobs/{job}", None),
    ("DELETE", "@blob-gc/{job}", None),
    ("DELETE", "@blob-fsck/{job}", None),
]


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="dry_run"\r\n\r\nfalse\r\n--x--\r\n'


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(map(str, *headers.items())))
@pytest.mark.parametrize(("method", "path", "body"), CHANGING, ids=lambda part: str(part))
def test_a_foreign_page_starts_and_stops_nothing(sites, method, path, body, headers):
    job = ended(sites, "one", "count")["id"]
    before = jobs_of(sites, "one")
    if "multipart" in (headers.get("Content_Type") or ""):
        body = MULTIPART
    answer = sites.ask("one", "root", method, path.format(job=job), body, **headers)
    assert answer.status in (403, 415), answer.body
    assert jobs_of(sites, "one") == before
    seen = sites.ask("one", "root", "GET", f"@blob-jobs/{job}").json
    assert (seen["state"], seen["cancelling"]) == ("done", False)


def ended(sites, site, kind, **options):
    """A job of that kind which has ended, as REST tells of it: started, and waited for."""
    answer = sites.ask(site, "root", "POST", "@blob-jobs", {"kind": kind, **options})
    url = answer.headers["Location"] if answer.status == 202 else answer.json["error"]["job"]
    path = url.partition(f"/{site}/")[2]
    until = time.monotonic() + 60
    while time.monotonic() < until:
        job = sites.ask(site, "root", "GET", path).json
        if job["state"] != "running":
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def test_a_form_reaches_no_service_by_the_path_of_volto(sites):
    """Below ++api++ every request is one of plone.restapi's, whatever it accepts."""
    before = jobs_of(sites, "one")
    client = sites.as_user("one", "root")
    forms = {
        "application/x-www-form-urlencoded": b"dry_run=false",
        "text/plain": b'{"dry_run": true}',
        "multipart/form-data; boundary=x": MULTIPART,
    }
    for declared, body in forms.items():
        answer = client.request("POST", "++api++/@blob-gc", body, {"Content-Type": declared})
        assert answer.status == 415, answer.body
    assert jobs_of(sites, "one") == before
    answer = client.request("POST", "++api++/@blob-jobs", b'{"kind": "count"}', {"Content-Type": "application/json"})
    assert answer.status in (202, 409), answer.body


def test_the_sites_own_page_behind_a_virtual_host(sites):
    """What the browser sees is another address than Zope's own; that one counts."""
    host = "VirtualHostBase/https/www.example.org:443/one/VirtualHostRoot"
    origin = "https://www.example.org"

    def start(**headers):
        return sites.ask(host, "root", "POST", "@blob-jobs", {"kind": "count"}, **headers)

    ended(sites, "one", "count")
    answer = start(Origin=origin, Sec_Fetch_Site="same-origin")
    assert answer.status == 202 and answer.headers["Location"].startswith(f"{origin}/@blob-jobs/count-")
    assert start(Origin=f"http://localhost:{sites.instance.port}").status == 403
    assert start(Origin="https://www.example.org:8443").status == 403


@pytest.mark.parametrize(("method", "path", "body"), CHANGING, ids=lambda part: str(part))
def test_what_a_browser_asks_before_starts_nothing(sites, method, path, body):
    """A preflight is let through without a login by plone.rest, and reaches no service."""
    before = jobs_of(sites, "one")
    for user in (None, "root"):
        answer = sites.ask(
            "one", user, "OPTIONS", path.format(job="gc-1"), body,
            Origin="https://evil.example.com", Access_Control_Request_Method=method,
        )  # fmt: skip
        assert answer.headers["Access-Control-Allow-Origin"] is None and b"gc-" not in answer.body
    assert jobs_of(sites, "one") == before


# What they answer


def test_a_plan_and_what_it_found(sites):
    answer = sites.ask("two", "root", "POST", "@blob-gc?database=second", {"allow": 0.5})
    planned = answer.json
    assert answer.status == 202 and planned["kind"] == "gc" and planned["by"] == "root", answer.body
    assert planned["options"] == {"dry_run": True, "plan": None, "allow": 0.5}
    assert answer.headers["Location"] == planned["@id"]
    assert planned["@id"].endswith(f"/two/@blob-gc/{planned['id']}?database=second")
    done = ended(sites, "second/site", "gc")
    assert done["state"] == "done" and done["result"]["dry_run"] is True and done["progress"]["phase"], done
    seen = sites.ask("two", "root", "GET", f"@blob-gc/{planned['id']}?database=second").json
    assert seen["state"] == "done" and not seen["items"]  # all that is there is in use, or too young
    listed = sites.ask("two", "root", "GET", "@blob-gc?database=second&b_size=1").json
    assert listed["items"][0]["kind"] == "gc" and [kind["name"] for kind in listed["kinds"]] == ["gc"]
    assert sites.ask("one", "root", "GET", f"@blob-gc/{planned['id']}0000").status == 404
    stopped = sites.ask("two", "root", "DELETE", f"@blob-gc/{planned['id']}?database=second")
    assert stopped.status == 202 and stopped.json["state"] == "done"  # it has ended: no error


def test_jobs_of_all_kinds(sites):
    told = sites.ask("one", "root", "GET", "@blob-jobs").json
    kinds = {kind["name"]: kind["why_not"] for kind in told["kinds"]}
    assert kinds["count"] is kinds["gc"] is None and "<blobdirsource>" in kinds["migrate"]
    answer = sites.ask("one", "root", "POST", "@blob-jobs", {"kind": "migrate"})
    assert answer.status in (400, 409) and "<blobdirsource>" in answer.json["error"]["message"]
    job = ended(sites, "one", "count")
    assert job["state"] == "done" and job["by"] == "root"
    assert sites.ask("one", "root", "GET", f"@blob-jobs/{job['id']}").json == job
    assert sites.ask("one", "root", "GET", f"@blob-gc/{job['id']}").status == 404  # of another kind
    assert sites.ask("one", "root", "DELETE", f"@blob-gc/{job['id']}").status == 404
    assert sites.ask("one", "root", "DELETE", "@blob-jobs").status == 404
    told = sites.ask("one", "root", "GET", "@blob-jobs?kind=count&b_size=1").json
    assert told["items"][0]["id"] == job["id"] and [kind["name"] for kind in told["kinds"]] == ["count"]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "@blob-gc", {"dry_run": "false"}, "dry_run"),
        ("POST", "@blob-gc", {"dry_run": 0}, "dry_run"),
        ("POST", "@blob-gc", {"dry_run": False}, "plan"),
        ("POST", "@blob-gc", {"dry_run": False, "plan": 7}, "plan"),
        ("POST", "@blob-gc", {"kind": "mirror"}, "kind"),
        ("POST", "@blob-fsck", {"dry_run": False}, "repair"),
        ("POST", "@blob-fsck", {"dry_run": False, "repair": 1}, "repair"),
        ("POST", "@blob-fsck", {"deep": "yes"}, "deep"),
        ("POST", "@blob-fsck", {"plan": "x"}, "plan"),
        ("POST", "@blob-jobs", {}, "kind"),
        ("POST", "@blob-jobs", {"kind": "format the disk"}, "kind"),
        ("POST", "@blob-jobs", {"kind": ["gc"]}, "kind"),
        ("POST", "@blob-jobs", {"kind": "mirror", "path": "/etc"}, "path"),
        ("GET", "@blob-jobs?kind=all", None, "kind"),
        ("GET", "@blob-jobs?b_size=0", None, "b_size"),
        ("GET", "@blob-jobs?b_size=1001", None, "b_size"),
        ("GET", "@blob-jobs?b_start=-1", None, "b_start"),
        ("GET", "@blob-jobs?b_start=x", None, "b_start"),
        ("GET", "@blob-storage?b_size=" + "9" * 40, None, "b_size"),
    ],
)
def test_what_is_wrong_names_the_field(sites, method, path, body, field):
    before = jobs_of(sites, "one")
    answer = sites.ask("one", "root", method, path, body)
    assert answer.status == 400, answer.body
    assert answer.json["error"]["type"] == "BadRequest" and answer.json["error"]["field"] == field
    assert jobs_of(sites, "one") == before


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"gc"', b"\xff"])
def test_a_body_that_is_no_object(sites, body):
    before = jobs_of(sites, "one")
    assert sites.ask("one", "root", "POST", "@blob-gc", body).status == 400
    assert jobs_of(sites, "one") == before


def test_a_plan_that_is_not_kept(sites):
    answer = sites.ask("two", "root", "POST", "@blob-gc?database=second", {"dry_run": False, "plan": "of-last-year"})
    assert answer.status == 400 and answer.json["error"]["field"] == "plan"


@pytest.mark.parametrize("path", ["@blob-storage/more", "@blob-jobs/a/b", "@blob-gc/a/b", "@blob-jobs/gc-999999"])
def test_what_is_not_there(sites, path):
    assert sites.ask("one", "root", "GET", path).status == 404


def test_a_check_is_run_and_told(sites):
    told = sites.ask("one", "root", "POST", "@blob-storage/check", {})
    assert told.status == 200 and told.json["check"]["ok"] is True, told.body
    assert told.json["check"]["findings"] and told.json["@id"].endswith("/one/@blob-storage")
    assert sites.ask("one", "root", "GET", "@blob-storage").json["check"] == told.json["check"]
    reduced = sites.ask("one", "Manager", "GET", "@blob-storage").json["check"]
    assert reduced == {"at": told.json["check"]["at"], "ok": True}
    assert sites.ask("one", "root", "POST", "@blob-storage").status == 404
    assert sites.ask("one", "root", "POST", "@blob-storage/other", {}).status == 404


def test_each_database_has_its_own_figures(sites, s3):
    """Those of the whole database, whichever of its sites is asked; as a count has kept them, and not counted anew."""

    def listed(database):
        found = s3.list_objects_v2(Bucket=sites.bucket, Prefix=f"{database}/blobs/")["Contents"]
        return {"objects": len(found), "bytes": sum(entry["Size"] for entry in found)}

    in_bucket = {}
    for database in ("main", "second"):
        while True:  # what tests before this one left may go in the background
            in_bucket[database] = listed(database)
            ended(sites, "one" if database == "main" else "second/site", "count")
            if listed(database) == in_bucket[database]:
                break
    # The files at least that the sites were made with.
    assert in_bucket["main"]["objects"] >= 3 and in_bucket["second"]["objects"] >= 4
    assert in_bucket["main"] != in_bucket["second"]
    for site, database in SITES.items():
        if database in in_bucket:
            sites.ask(site, "root", "POST", "@blob-storage/check", {})  # what the bucket keeps is read anew
            told = known(sites, site)
            assert told["database"] == told["store"]["prefix"] == database
            assert told["store"]["owner"] == f"{database}.example.org" and told["store"]["bucket"] == sites.bucket
            assert told["figures"]["blobs"] == in_bucket[database], site
            assert known(sites, site, "?database=second")["figures"]["blobs"] == in_bucket["second"]


def known(sites, site, query=""):
    """The status once the figures were read: who looks waits for a second at most."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        told = sites.ask(site, "root", "GET", f"@blob-storage{query}").json
        if told["figures"] is not None:
            return told
        time.sleep(0.2)
    raise AssertionError(told)


def test_sites_without_the_add_on_have_none_of_them(admin, zope):
    from web_client import WebClient

    client = WebClient(zope.port, "without", admin.user)
    for name in ("@blob-storage", "@blob-gc", "@blob-fsck", "@blob-jobs"):
        assert client.get(name, Accept="application/json").status == 404


# The documentation

EXAMPLES = [one for name in ("@blob-storage", "@blob-gc", "@blob-fsck", "@blob-jobs") for one in exchanges(name)]


def test_the_examples_of_the_documentation(sites):
    """One after the other, in a database where nothing runs."""
    for kind in ("gc", "count", "fsck"):
        ended(sites, "second/site", kind)
    assert sites.ask("second/site", "Manager", "POST", "@blob-storage/check", {}).status == 200
    for example in EXAMPLES:
        if (example.method, example.path) == ("GET", "/plone/@blob-fsck"):
            ended(sites, "second/site", "fsck", deep=True)  # the one that an example before it began, or another
        user = "Site Administrator" if example.path.endswith("@blob-storage") else "Manager"
        path = example.path.removeprefix("/plone/")
        answer = sites.ask("second/site", user, example.method, path, example.body)
        assert answer.status == example.status, answer.body
        if "job" in example.answer:  # what phases follow the two, and whether the last has a total, is the run's own
            assert answer.json["job"]["progress"].keys() == example.answer["job"]["progress"].keys()
            answer.json["job"] |= {"progress": example.answer["job"]["progress"], "log": answer.json["job"]["log"][:2]}
        assert form(answer.json) == form(example.answer), example
        if "Location" in example.answered:
            assert answer.headers["Location"] == answer.json["@id"]
        else:
            assert answer.json.get("error") == example.answer.get("error")
    assert len(EXAMPLES) >= 5


def test_the_lines_that_are_offered_bring_a_site_into_a_bucket(sites, s3_server):
    """Filled in and put in place of the old section: the same files are served, from where they were."""
    instance = sites.instance
    conf = instance.home / "etc" / "zope.conf"
    before = conf.read_text()
    snippet = sites.ask("plain/site", "root", "GET", "@blob-storage").json["snippet"]
    for line, filled in {
        "bucket-name plone-blobs": f"bucket-name {sites.bucket}\n    s3-addressing-style path",
        "s3-endpoint-url https://s3.example.org:9000": f"s3-endpoint-url {s3_server.endpoint_url}",
        "s3-region eu-central-1": f"s3-region {s3_server.region}",
        "cache-dir /var/cache/plone-blobs": f"cache-dir {instance.cache_dir}",
    }.items():
        assert snippet.count(line) == 1
        snippet = snippet.replace(line, filled)
    was = sites.ask("plain/site", "root", "GET", "file-0/@@download/file").body
    assert was == b"plain 0" * 100
    instance.stop()
    try:
        conf.write_text(
            before.partition("<zodb_db plain>")[0] + snippet.replace("%import collective.s3blobstorage", "")
        )
        instance.environment |= {"S3_ACCESS_KEY": s3_server.access_key, "S3_SECRET_KEY": s3_server.secret_key}
        instance.start()
        told = sites.ask("plain/site", "root", "GET", "@blob-storage").json
        assert told["available"] is True and told["store"]["prefix"] == "plain" and told["snippet"] is None
        assert sites.ask("plain/site", "root", "GET", "file-0/@@download/file").body == was
    finally:
        instance.stop()
        conf.write_text(before)
        instance.start()
