"""A site on plain FileStorage: the pages say why there is nothing to see, and what to put into zope.conf."""

from __future__ import annotations

import re
import secrets
from html import unescape

import pytest
from panel_forms import Panel, text_of
from web_client import WebClient
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

STORAGE = """\
  <filestorage>
    path {home}/var/Data.fs
    blob-dir {home}/var/blobs
  </filestorage>"""


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    home = tmp_path_factory.mktemp("plain")
    storage = STORAGE.format(home=home)
    password = secrets.token_urlsafe(12)
    instance = ZopeInstance(home, home / "cache", storage, password=password, environment={"SITES": "with"})
    instance.make()
    instance.start()
    yield Panel(WebClient(instance.port, "with", ("admin", password)))
    instance.stop()


def test_the_status_has_the_reason_and_lines_to_copy(panel):
    answer = panel.get("controlpanel")
    assert answer.status == 200
    said = text_of(answer)
    assert "The files of this site are not in a bucket." in said
    assert "has no <s3blobstorage>" in said
    snippet = unescape(re.search(r"<pre[^>]*><code>(.*?)</code>", answer.body.decode(), re.DOTALL)[1])
    for line in ("%import collective.s3blobstorage", "<s3blobstorage>", "<filestorage>"):
        assert line in snippet


def test_all_ways_but_plones_own_are_ruled_out(panel):
    answer = panel.get("settings")
    assert text_of(answer).count("Cannot be chosen: The files of this site are not in a bucket.") == 3
    assert "Cannot be switched on: The files of this site are not in a bucket." in text_of(answer)


def test_there_is_nothing_to_try_but_the_question_is_answered(panel):
    answer = panel.get("try", item="files")
    assert answer.status == 200
    assert "Try it now" not in text_of(answer)
    assert "This item has no file that you may have." in text_of(answer)


def test_there_are_no_jobs(panel):
    assert panel.get("jobs").status == 404
    assert "s3blobstorage-jobs" not in panel.get("controlpanel").body.decode()


def test_a_click_on_what_is_not_there_is_no_error(panel):
    token = panel.token("settings")
    for page, action in (("controlpanel", "check"), ("controlpanel", "count"), ("try", "try")):
        assert panel.post(page, {"action": action}, token=token).status == 404
