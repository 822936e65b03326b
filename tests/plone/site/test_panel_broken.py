"""What an item says whose file is damaged, and what the control panel says of it."""

from __future__ import annotations

import time
import uuid

import pytest
from damaged_file import DamagedFile
from panel_forms import Panel, text_of
from web_client import WebClient, json_file


@pytest.fixture(scope="module")
def client(zope):
    return WebClient(zope.port, "with", ("admin", zope.password))


@pytest.fixture
def reel(client, site_bucket):
    made = DamagedFile.made(client, site_bucket, f"reel-{uuid.uuid4().hex[:6]}")
    yield made
    made.mend()
    client.api("DELETE", made.path, expect=204)


def shown(client, path, wanted):
    """What the item's page says of damage once that is as wanted: what was found is read behind a look."""
    until = time.monotonic() + 90
    while True:
        said = text_of(client.get(f"{path}/view"))
        if ("A file of this item is damaged." in said) is wanted:
            return said
        assert time.monotonic() < until, said[:2000]
        time.sleep(0.3)


def test_a_lost_file_shows_on_its_item_until_it_is_brought_back(client, editor, zope, reel):
    shown(client, reel.path, False)
    reel.lose()
    reel.check()
    name = reel.path.rpartition("/")[2]
    said = shown(client, reel.path, True)
    assert f"{name}.bin : missing. Upload the file again if you have it; else ask who operates the site" in said
    assert "What the last check of every file found" in said
    said = shown(editor, reel.path, True)  # who may edit it, and does not operate
    assert "What the last check of every file found" not in said
    assert "damaged" not in text_of(client.get("files/view"))
    visitor = WebClient(zope.port, "with").get(f"{reel.path}/view")
    assert visitor.status == 200 and "damaged" not in text_of(visitor)
    reel.check(repair=True)
    until = time.monotonic() + 90
    while "A copy was found: ask who operates the site to bring it back" not in shown(editor, reel.path, True):
        assert time.monotonic() < until
        time.sleep(0.3)
    reel.check(repair=True, dry_run=False)
    shown(editor, reel.path, False)


def test_a_file_that_was_replaced_is_not_damaged_any_more(client, editor, reel):
    reel.replace(lambda data: data[:-1])
    reel.check()
    assert ": cut off. " in shown(editor, reel.path, True)
    client.api("PATCH", reel.path, {"file": json_file(b"new " * 500, "new.bin", "text/plain")}, expect=204)
    said = text_of(editor.get(f"{reel.path}/view"))  # at once: the findings are the same
    assert "new.bin" in said and "damaged" not in said


def test_the_report_names_the_content_with_a_link(client, reel):
    reel.lose()
    told = reel.check(repair=True)
    job = told["job"]["id"]
    answer = Panel(client).get("jobs", job=job)
    said = text_of(answer)
    assert f"What is missing or damaged ({told['items_total']})" in said
    row = said.partition(f"/with/{reel.path}")[2].partition(reel.oid)[0].replace("\N{NO-BREAK SPACE}", " ")
    assert "(file) missing" in row and "can be brought back, from: cache" in row
    assert f'href="{client.url}/{reel.path}/view"'.encode() in answer.body
    assert b'value="do"' in answer.body
    said = text_of(Panel(client).get("controlpanel"))
    assert f"Files that are missing or damaged: {told['items_total']}." in said
    assert f"Check every file just now missing or damaged: {told['items_total']}" in said
    done = Panel(client).post("jobs", {"action": "do", "job": job})
    assert done.status == 303
    until = time.monotonic() + 60
    while reel.data is None or client.api("GET", "@blob-fsck", expect=200)["running"]:
        assert time.monotonic() < until
        time.sleep(0.2)
