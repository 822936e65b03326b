"""The uploader of docs/volto.md in headless Chromium as Volto has it: a token, no cookie, ``++api++`` of its origin."""

from __future__ import annotations

import time

import pytest
from editor_site import MB, file_of
from front import Front
from servers import faults
from volto_bundle import bundle

pytestmark = [pytest.mark.chromium, pytest.mark.one_release]

PAGE = b"<!doctype html><html lang=en><title>Volto</title><main></main><script src=/bundle.js></script></html>"
PART = 16 * MB  # what a part has where nobody asks for another size
WAIT = 120_000  # milliseconds: 300 MB on a busy machine


@pytest.fixture(scope="module")
def volto(running_editor_site, tmp_path_factory):
    """What Volto's web server does: pages are its own, and ``/++api++`` is the site in Zope."""

    def rewrite(path):
        assert path.startswith("/++api++/"), path  # nothing else is asked of Zope
        rest = path.removeprefix("/++api++")
        return f"/VirtualHostBase/http/localhost:{front.port}/with/++api++/VirtualHostRoot{rest}"

    front = Front(running_editor_site.zope.port, rewrite)
    store = running_editor_site.proxy.endpoint_url
    front.policy = f"default-src 'none'; script-src 'self'; connect-src 'self' {store}"
    front.pages["/bundle.js"] = ("text/javascript", bundle(tmp_path_factory.mktemp("volto")))
    front.pages["/files/upload-large-files"] = ("text/html", PAGE)
    front.pages["/favicon.ico"] = ("image/x-icon", b"")
    with front:
        running_editor_site.let_pages_send(front.origin)
        yield front


@pytest.fixture
def open_page(chromium, volto, editor_site):
    """Opens the route of the example with such a token; what the page reported as an error fails the test."""
    context = chromium.new_context(base_url=volto.origin)
    context.set_default_timeout(WAIT)
    errors = []

    def opened(token=None):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/files/upload-large-files")
        assert page.evaluate("window.config") == {"path": "/**/upload-large-files", "content": False}
        page.evaluate("token => window.login(token)", token or editor_site.token())
        return page

    volto.reset()
    yield opened
    assert (context.cookies(), errors) == ([], [])
    context.close()


def choose(page, *files):
    page.set_input_files("input[type=file]", [file.path for file in files])


def row(page, state, name=""):
    """The row of a file, once it is in that state."""
    found = page.locator(f"li[data-state={state}]", has_text=name)
    found.wait_for()
    return found


def wait_until_sent(page, size):
    """By the row's bar. Asked from here: the page's policy lets no script wait for it."""
    deadline = time.monotonic() + WAIT / 1000
    while page.locator("progress").evaluate("bar => bar.value") < size:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def path_of(page, volto, name):
    """Of the content, by the row's link, which is Volto's own address of it."""
    address = row(page, "done", name).get_by_role("link").get_attribute("href")
    assert address.startswith(f"{volto.origin}/files/"), address
    return address.removeprefix(f"{volto.origin}/")


def test_a_large_file(open_page, volto, editor_site, tmp_path, tier):
    film = file_of(tmp_path / "film.mp4", tier["direct_mb"] * MB + 13)
    page = open_page()
    choose(page, film)
    assert editor_site.found(path_of(page, volto, "film.mp4")) == (film.size, film.sha256)
    assert editor_site.sent_to_store() == film.size
    assert 0 < volto.to_zope() < 10_000


def test_several_small_ones(open_page, volto, editor_site, tmp_path):
    files = [file_of(tmp_path / f"small-{number}.bin", 100_000 + number) for number in range(3)]
    page = open_page()
    choose(page, *files)
    for file in files:
        assert editor_site.found(path_of(page, volto, file.path.name)) == (file.size, file.sha256)


@pytest.fixture
def half_way(open_page, editor_site, tmp_path):
    """A page with a file of five parts of which three have come, while the others go slowly."""
    film = file_of(tmp_path / "film.mp4", 4 * PART + 5 * MB)
    editor_site.proxy.fail(faults.trickle(1 * MB, "request"), method="PUT", nth=4, times=1000)
    page = open_page()
    choose(page, film)
    wait_until_sent(page, 3 * PART + 1)
    deadline = time.monotonic() + WAIT / 1000
    while len(editor_site.parts_that_came()) < 3:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
    return page, film


def test_paused_and_resumed(half_way, volto, editor_site):
    """What was on its way is sent again, and nothing that had come."""
    page, film = half_way
    page.get_by_role("button", name="Pause film.mp4").click()
    row(page, "paused")
    editor_site.proxy.forgive()
    sent = editor_site.proxy.counts()["UploadPart"]
    page.wait_for_timeout(1500)
    assert editor_site.proxy.counts()["UploadPart"] == sent == 5
    page.get_by_role("button", name="Resume film.mp4").click()
    assert editor_site.found(path_of(page, volto, "film.mp4")) == (film.size, film.sha256)
    assert sorted(editor_site.parts_that_came()) == [1, 2, 3, 4, 5]  # none of them twice
    assert editor_site.proxy.counts()["UploadPart"] == 7


def test_a_connection_that_is_lost_and_back(half_way, volto, editor_site):
    page, film = half_way
    editor_site.proxy.down()
    told = row(page, "waiting").get_by_role("status")
    assert told.inner_text() == "Trying again: There is no connection."
    editor_site.proxy.forgive()
    editor_site.proxy.up()
    assert editor_site.found(path_of(page, volto, "film.mp4")) == (film.size, film.sha256)
    assert sorted(editor_site.parts_that_came()) == [1, 2, 3, 4, 5]


def test_cancelled(open_page, editor_site, tmp_path):
    editor_site.proxy.fail(faults.trickle(1 * MB, "request"), method="PUT", times=1000)
    page = open_page()
    choose(page, file_of(tmp_path / "unwanted.mp4", 12 * MB))
    wait_until_sent(page, 1e6)
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as ended:
        page.get_by_role("button", name="Cancel unwanted.mp4").click()
    assert ended.value.status == 204
    row(page, "cancelled")
    assert editor_site.editor.api("GET", "files/@blob-upload", expect=200)["unfinished"]["count"] == 0
    assert "unwanted.mp4" not in str(editor_site.editor.api("GET", "files", expect=200)["items"])


def test_the_words_of_the_server(open_page, editor_site, tmp_path):
    empty = file_of(tmp_path / "empty.mp4", 0)
    page = open_page()
    choose(page, empty)
    assert row(page, "failed").get_by_role("status").inner_text() == "Not uploaded: The file is empty."


def test_a_token_that_is_not_good_any_more(open_page, volto, editor_site, tmp_path):
    """What was refused is gone on with after the next login."""
    file = file_of(tmp_path / "later.bin", 200_000)
    page = open_page("no.good.token")
    choose(page, file)
    told = row(page, "failed").get_by_role("status").inner_text()
    assert told.startswith("Not uploaded: ") and len(told) > 20
    page.evaluate("token => window.login(token)", editor_site.token())
    page.get_by_role("button", name="Resume later.bin").click()
    assert editor_site.found(path_of(page, volto, "later.bin")) == (file.size, file.sha256)


@pytest.mark.parametrize("seen", [True, False])
def test_requests_whose_time_is_over_are_asked_for_again(open_page, volto, editor_site, tmp_path, seen):
    """``seen``: whether the store's refusal has the headers that let a page see its status; not every store's has."""
    film = file_of(tmp_path / f"signed-{seen}.mp4", 12 * MB)
    page = open_page()
    if seen:
        answer = {"status": 403, "headers": {"Access-Control-Allow-Origin": volto.origin}}
        page.route(lambda url: "partNumber=1" in url, lambda route: route.fulfill(**answer), times=1)
    else:
        editor_site.proxy.fail(faults.answer(403, "AccessDenied"), method="PUT")
    choose(page, film)
    assert editor_site.found(path_of(page, volto, film.path.name)) == (film.size, film.sha256)
    assert [method for method, _path, _size in volto.bodies].count("PUT") == 1
