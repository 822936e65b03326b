"""“Status”, “Try it” and “Jobs” as operators and site managers use them, with a million blobs in the figures."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from pathlib import Path

import pytest
from fixtures_servers import s3_client
from panel_browser import DESKTOP, IMAGES, PHONE, cookies_of, picture, theme, violations, width_beyond
from panel_forms import Panel, text_of
from servers.proxy import Proxy
from web_client import WebClient
from zope_instance import SECTION, ZopeInstance

pytestmark = pytest.mark.one_release

HERE = Path(__file__).parent
STORAGES = '<utility factory="panel_storages.Storages" provides="collective.s3blobstorage.interfaces.IBlobStorages" />'
PAGES = ("controlpanel", "try", "jobs")


@pytest.fixture(scope="module")
def bucket(s3_server):
    return f"panel-{uuid.uuid4().hex[:20]}"


@pytest.fixture(scope="module")
def proxy(s3_server):
    """Between Zope and the store; counts what is asked."""
    with Proxy(s3_server.endpoint_url) as between:
        yield between


@pytest.fixture(scope="module")
def instance(s3_server, proxy, bucket, tmp_path_factory):
    home, cache_dir = tmp_path_factory.mktemp("panel"), tmp_path_factory.mktemp("panel-cache")
    section = SECTION.format(bucket=bucket, server=s3_server, cache_dir=cache_dir, home=home)
    section = section.replace(s3_server.endpoint_url, proxy.endpoint_url)
    path = os.pathsep.join(map(str, (HERE, HERE.parents[1] / "storage")))
    made = ZopeInstance(
        home, cache_dir, section, password=secrets.token_urlsafe(12), zcml=STORAGES,
        environment={"SITES": "with", "PYTHONPATH": path},
    )  # fmt: skip
    made.make()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def operator(instance):
    return Panel(WebClient(instance.port, "with", ("admin", instance.password)))


@pytest.fixture(scope="module")
def manager(instance, operator):
    """A Site Administrator, who does not operate the database."""
    password = secrets.token_urlsafe(16)
    user = {"username": "owner", "email": "owner@example.org", "password": password, "roles": ["Site Administrator"]}
    operator.client.api("POST", "@users", user, expect=201)
    return Panel(WebClient(instance.port, "with", ("owner", password)))


@pytest.fixture(scope="module")
def cookies(chromium, instance):
    return cookies_of(chromium, f"http://localhost:{instance.port}", "with", "admin", instance.password)


@pytest.fixture
def open_page(chromium, instance, cookies):
    """Opens a page of a browser in which the operator is logged in; closes it after the test."""
    contexts = []

    def open_(path, *, viewport=DESKTOP, **options):
        context = chromium.new_context(viewport=viewport, base_url=f"http://localhost:{instance.port}", **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"/with/@@s3blobstorage-{path}")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def no_job_runs(operator):
    """Before and after: the kinds of jobs are few, and one of a kind runs at a time."""

    def end():
        while 'name="action" value="cancel"' in (shown := _running(operator)):
            job = shown.partition('name="job" value="')[2].partition('"')[0]
            operator.post("jobs", {"action": "cancel", "job": job})
            time.sleep(0.2)

    end()
    yield
    end()


def _running(operator):
    """The page of a job that runs; "" where none does."""
    listed = operator.get("jobs").body.decode()
    state = listed.partition('data-state="')[2].partition('"')[0]
    job = state.partition("job=")[2]
    return operator.get("jobs", job=job).body.decode() if job else ""


# Status


def test_one_look(operator):
    said = text_of(operator.get("controlpanel")).replace("\N{NO-BREAK SPACE}", " ")
    assert "The files are there; something could be better." in said
    assert "The key that encrypts the files is 400 days old." in said
    assert "What to do next Make a new key active, then start the job “Change keys”." in said
    assert "Files in the bucket 1,004,223 (913 GB)" in said
    assert "7.4 GB of 10 GB are used (74 %)" in said
    assert "Last check of every file ✓ 30 h ago , all is there, and was read" in said
    assert "Reading 120,333 3 100 GB 21 ms 80 ms 400 ms" in said
    assert "of all processes on plone-1 that share the cache folder (now: 4)" in said


def test_who_does_not_operate_sees_the_site_and_no_names(operator, manager):
    answer = manager.get("controlpanel")
    assert answer.status == 200
    assert "You see what concerns your site." in text_of(answer)
    for name in ("my-site-blobs", "s3.example.org", "2025-10", "plone-1", "/var/cache", "1,004,223", "old-disk"):
        assert name in operator.get("controlpanel").body.decode()
        assert name not in answer.body.decode()


def test_charts_have_a_name_and_the_figures_as_a_table(operator):
    shown = operator.get("controlpanel").body.decode()
    assert shown.count('<svg class="s3b-chart"') == shown.count('role="img" aria-labelledby="s3b-') == 3
    said = text_of(operator.get("controlpanel"))
    assert said.count("From From the disk From the bucket Share") == 2


@pytest.mark.parametrize("page", PAGES)
def test_a_look_lists_no_blobs_and_writes_nothing(operator, proxy, page):
    operator.get(page)
    proxy.reset()
    assert operator.get(page).status == 200
    asked = proxy.exchanges
    assert {each.method for each in asked} <= {"GET", "HEAD"}
    listed = [each.line for each in asked if each.operation.startswith("ListObjects")]
    assert [line for line in listed if "prefix=plone%2Fsite%2Fjobs%2F" not in line] == []
    assert len(listed) <= {"jobs": 2}.get(page, 0)


# Who may


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        ("controlpanel", {"action": "check"}),
        ("controlpanel", {"action": "count"}),
        ("try", {"action": "try"}),
        ("jobs", {"action": "plan", "kind": "mirror"}),
        ("jobs", {"action": "cancel", "job": "gc-1"}),
        ("jobs", {"action": "do", "job": "gc-1"}),
    ],
)
def test_a_foreign_page_and_who_may_not_do_nothing(operator, manager, bucket, s3_server, page, fields):
    client = s3_client(s3_server)
    before = _objects(client, bucket)
    checked = _checked(operator)
    foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    for token in ("", "0" * 40):
        assert operator.post(page, fields, token=token, **foreign).status == 403
    own = manager.token("settings")
    assert manager.post(page, fields, token=own).status == 403
    # Nor with the token of somebody else.
    assert operator.post(page, fields, token=own).status == 403
    assert _objects(client, bucket) == before
    assert _checked(operator) == checked
    client.close()


def _objects(client, bucket):
    listed = client.list_objects_v2(Bucket=bucket, Prefix="plone/site/").get("Contents", ())
    return {line["Key"]: line["ETag"] for line in listed if "/jobs/" in line["Key"] or "s3blobs-check" in line["Key"]}


def _checked(operator):
    return operator.get("controlpanel").body.decode().partition("Last check")[2].partition("datetime=")[2][:30]


@pytest.mark.parametrize("path", ["jobs", "job-state"])
def test_jobs_are_for_who_operates(manager, path):
    assert manager.get(path, job="gc-1").status == 403
    assert "@@s3blobstorage-jobs" not in manager.get("controlpanel").body.decode()


@pytest.mark.parametrize("job", ["gc-999", "nothing", "../jobs/gc-1", "%2e%2e"])
def test_a_job_that_there_is_not(operator, job):
    assert operator.get("jobs", job=job).status == 404
    assert operator.get("job-state", job=job).status == 404


def test_a_database_that_there_is_not(operator):
    assert operator.get("controlpanel", database="other").status == 404


# In a browser


@pytest.mark.chromium
def test_a_check(open_page):
    page = open_page("controlpanel")
    page.get_by_role("button", name="Check now").click()
    page.locator("dd", has_text="just now, all is well").wait_for()


@pytest.mark.chromium
def test_a_trial_shows_each_step_and_leaves_nothing(open_page, s3_server, bucket):
    page = open_page("try")
    page.get_by_role("button", name="Try it now").click()
    page.get_by_text("It works.").wait_for()
    rows = page.locator("#content-core table tbody tr")
    assert rows.count() == 5
    for row in rows.all():
        assert row.get_by_role("img", name="Good").is_visible()
        assert "ms" in row.locator("td").first.inner_text()
    assert violations(page) == []
    client = s3_client(s3_server)
    listed = client.list_objects_v2(Bucket=bucket, Prefix="plone/site/.s3blobs-check/").get("Contents", ())
    assert [line["Key"] for line in listed if not line["Key"].endswith("/")] == []
    client.close()


@pytest.mark.chromium
def test_a_plan_its_progress_and_doing_it(open_page, no_job_runs):
    page = open_page("jobs")
    gc = page.get_by_role("region", name="Clean up")
    gc.get_by_role("button", name="Make a plan").click()
    bar = page.locator("progress")
    bar.wait_for()
    page.wait_for_function("document.querySelector('progress').value > 0.2")  # nobody reloaded the page
    assert page.get_by_role("button", name="Do it").count() == 0
    page.get_by_role("heading", name="What would be done").wait_for()  # the script did when the job was done
    assert bar.count() == 0
    assert page.get_by_text("1 to 25 of 30").is_visible()
    page.get_by_role("link", name="After").click()
    page.get_by_text("26 to 30 of 30").wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="Do it").click()
    bar.wait_for()
    assert "(plan)" not in page.locator("h2").first.inner_text()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("cancelled").first.wait_for()
    page.get_by_role("link", name="All jobs").click()
    assert page.locator("table tbody tr").first.inner_text().split("\t")[1] == "cancelled"


def test_a_check_of_every_file_is_planned_with_what_can_be_brought_back(operator, no_job_runs):
    for fields, deep in (({}, False), ({"deep": "on"}, True)):
        operator.post("jobs", {"action": "plan", "kind": "fsck", **fields})
        listed = operator.client.api("GET", "@blob-jobs?kind=fsck&b_size=1", expect=200)
        assert listed["items"][0]["options"] == {"dry_run": True, "deep": deep, "repair": True}
        operator.post("jobs", {"action": "cancel", "job": listed["items"][0]["id"]})
        while _running(operator):
            time.sleep(0.2)


@pytest.mark.chromium
def test_without_javascript(open_page, no_job_runs):
    page = open_page("jobs", java_script_enabled=False)
    page.get_by_role("region", name="Copy from the sources").get_by_role("button", name="Make a plan").click()
    refresh = page.get_by_role("link", name="Refresh").get_attribute("href")
    done = page.get_by_role("heading", name="What would be done")
    deadline = time.monotonic() + 60
    while not done.count():
        assert time.monotonic() < deadline
        page.goto(refresh)
    assert page.locator("progress").count() == 0


@pytest.mark.chromium
def test_what_cannot_be_started_says_why(open_page):
    page = open_page("jobs")
    card = page.get_by_role("region", name="Bring a folder of blobs in")
    assert card.get_by_role("button").is_disabled()
    assert "Cannot be started: there is no <blobdirsource> in zope.conf" in card.inner_text()


@pytest.mark.chromium
@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_and_can_be_read(open_page, path, viewport, name):
    page = open_page(path, viewport=viewport)
    theme(page, name)
    assert width_beyond(page) == 0
    assert violations(page) == []
    for fold in page.locator("details").all():
        fold.evaluate("fold => { fold.open = true }")
    assert width_beyond(page) == 0
    assert violations(page) == []


@pytest.mark.chromium
def test_a_job_that_runs_fits_and_can_be_read(open_page, operator, no_job_runs):
    operator.post("jobs", {"action": "plan", "kind": "rotate"})
    page = open_page("jobs", viewport=PHONE)
    page.get_by_role("link", name="Look at this job").click()
    page.locator("progress").wait_for()
    assert width_beyond(page) == 0
    assert violations(page) == []


# Pictures


@pytest.mark.chromium
def test_pictures_for_the_manual(open_page, operator, no_job_runs, tmp_path):
    folder = Path(IMAGES or tmp_path)
    picture(open_page("controlpanel"), folder / "panel-status.png")
    phone = open_page("controlpanel", viewport=PHONE)
    theme(phone, "dark")
    picture(phone, folder / "panel-status-phone.png", height=1500)
    picture(open_page("settings"), folder / "panel-settings.png")
    page = open_page("try")
    page.get_by_role("button", name="Try it now").click()
    page.get_by_text("It works.").wait_for()
    picture(page, folder / "panel-try.png")
    operator.post("jobs", {"action": "plan", "kind": "mirror"})
    page = open_page("jobs")
    page.wait_for_function("document.querySelector('progress').value > 0.2")
    picture(page, folder / "panel-jobs.png")
    page.get_by_role("region", name="Clean up").get_by_role("button", name="Make a plan").click()
    page.get_by_role("button", name="Do it").wait_for()
    picture(page, folder / "panel-plan.png")
