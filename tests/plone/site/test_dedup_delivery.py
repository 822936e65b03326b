"""Files that share one object of the bucket, in each mode of delivery."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode, urlsplit

import pytest
import test_delivery
from test_delivery import Sites, between, from_store, front, in_each_mode, instance, mode, shows_no_url  # noqa: F401
from web_client import json_file

pytestmark = pytest.mark.one_release

SECTION = test_delivery.SECTION.replace("inline-size 50", "dedup on")
DATA = secrets.token_bytes(200_000)


@pytest.fixture(scope="module")
def sites(instance) -> Sites:  # noqa: F811
    """One site with two files of the same bytes."""
    made = Sites(instance, instance.port)
    admin = made.client("with", "admin")
    assert admin.get(f"@@make-ready?{urlencode({'password': instance.password})}").body == b"made"
    for name in ("one", "two"):
        admin.add("public", "File", name, file=json_file(DATA, f"{name}.bin", "application/octet-stream"))
    return made


@in_each_mode
def test_each_file_has_its_bytes_and_its_name(sites, mode, between):  # noqa: F811
    for name in ("one", "two"):
        answer = sites.client("with").get(f"public/{name}/@@download/file")
        if mode == "redirect":
            assert "/plone/objects/" in urlsplit(answer.headers["Location"]).path
            answer = from_store(answer.headers["Location"])
        else:
            assert shows_no_url(answer)
        assert answer.status == 200 and answer.body == DATA
        assert f"{name}.bin" in answer.headers["Content-Disposition"]
    stored = [one for one in between.exchanges if "/plone/objects/" in one.path and one.operation == "PutObject"]
    assert len({one.path for one in stored}) == 1


@in_each_mode
def test_a_range_of_it(sites, mode):  # noqa: F811
    answer = sites.client("with").request("GET", "public/two/@@download/file", headers={"Range": "bytes=1000-1999"})
    if mode == "redirect":
        answer = from_store(answer.headers["Location"], Range="bytes=1000-1999")
    assert (answer.status, answer.body) == (206, DATA[1000:2000])
