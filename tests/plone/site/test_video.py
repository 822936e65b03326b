"""A browser plays a video of the site, and jumps in it, by ranges: from the store, or through Zope."""

from __future__ import annotations

from urllib.parse import urlsplit

import payloads
import pytest
from web_client import WebClient, json_file

pytestmark = pytest.mark.one_release

SECONDS = 20

PLAY = """
async ({url, jump}) => {
  const video = document.createElement('video');
  video.muted = true;
  video.preload = 'metadata';
  const happened = name => new Promise((done, failed) => {
    video.addEventListener(name, done, {once: true});
    video.addEventListener('error', () => failed(new Error(video.error.message)), {once: true});
  });
  let arrived = happened('loadeddata');
  video.src = url;
  document.body.append(video);
  await arrived;
  arrived = happened('seeked');
  video.currentTime = jump;
  await arrived;
  const from = video.currentTime;
  await video.play();
  await new Promise(done => setTimeout(done, 700));
  video.pause();
  return {duration: video.duration, width: video.videoWidth, from, to: video.currentTime};
}
"""


@pytest.fixture(scope="module")
def film(admin, zope):
    """The published video, and the manager's client."""
    client = WebClient(zope.port, "with", admin.user)
    client.api("POST", "", {"@type": "Folder", "id": "films", "title": "films"}, expect=201)
    client.api("POST", "films/@workflow/publish", {}, expect=200)
    video = payloads.video(seconds=SECONDS)
    client.add("films", "File", "film", file=json_file(video.data, video.filename, video.content_type))
    yield client, video
    client.api("PATCH", "@registry", {"collective.s3blobstorage.delivery_mode": "stream"}, expect=204)


@pytest.mark.parametrize("cold", [False, True], ids=["cached", "cold"])
@pytest.mark.parametrize("mode", ["redirect", "proxy"])
def test_it_plays_and_jumps(film, zope, s3_server, page, mode, cold):
    client, video = film
    client.api("PATCH", "@registry", {"collective.s3blobstorage.delivery_mode": mode}, expect=204)
    if cold:
        zope.restart_with_empty_cache()
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{client.url}/films")
    played = page.evaluate(PLAY, {"url": f"{client.url}/films/film/@@download/file", "jump": SECONDS - 3})
    assert played["width"] == 320
    assert SECONDS - 1 < played["duration"] < SECONDS + 1
    assert SECONDS - 4 < played["from"] < played["to"]
    host = urlsplit(s3_server.endpoint_url).netloc if mode == "redirect" else f"localhost:{zope.port}"
    parts = [answer for answer in answers if answer.status == 206]
    assert parts and {urlsplit(answer.url).netloc for answer in parts} == {host}
    begins = [int(answer.headers["content-range"].split()[1].partition("-")[0]) for answer in parts]
    assert any(begin > len(video.data) // 2 for begin in begins), begins
    assert all(answer.headers["content-type"] == "video/webm" for answer in parts)
    redirects = [answer for answer in answers if answer.status == 302]
    assert bool(redirects) == (mode == "redirect")
