"""`s3blobs check` and browsers that upload: what the store answers them, and what to mend."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

import pytest
from command_line import document, keys_of, s3blobs, section
from rings import client_side
from servers.faults import answer
from servers.process import free_port
from sites import bucket_keys

from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StorageSettings, UploadSettings
from collective.s3blobstorage.status.upload_checks import upload_checks

WWW, EDIT = "https://www.example.org", "https://edit.example.org"
HEADERS = ["content-disposition", "content-type", "x-amz-*"]


def rule(*origins, methods=("PUT", "POST"), headers=HEADERS):
    return {"AllowedOrigins": list(origins), "AllowedMethods": list(methods), "AllowedHeaders": list(headers)}


@pytest.fixture
def checked(settings, bucket, tmp_path):
    def check(*origins, store=settings, why="", **uploads):
        opened = open_store(store)
        chosen = UploadSettings(origins=origins, **uploads)
        whole = StorageSettings(store=store, cache_dir=tmp_path / "cache", uploads=chosen)
        try:
            return {name: ask() for name, ask in upload_checks(whole, opened, why)}
        finally:
            opened.close()

    return check


@pytest.fixture
def rules(settings, bucket):
    store = open_store(settings)
    yield lambda *wanted: store.set_cors(wanted)
    store.close()


def test_without_origins_it_is_a_hint(checked):
    ok, detail, mend = checked()["direct upload"]
    assert ok is None and "set direct-upload-origins and run s3blobs cors" in detail and mend == ""
    assert checked(WWW, allowed=False) == {"direct upload": (None, "direct-upload is off", "")}


def test_what_is_refused_and_what_mends_it(checked, rules, settings):
    found = checked(WWW, EDIT)
    assert found["direct upload"][0] is False and found["direct upload"][2] == "s3blobs cors"
    assert found["direct upload"][1].count("may not send by") == 4 and "(403)" in found["direct upload"][1]
    assert found["other pages"][0] is True
    rules(rule(WWW))
    ok, detail, _ = checked(WWW, EDIT)["direct upload"]
    assert ok is False and WWW not in detail and f"pages of {EDIT} may not send by PUT" in detail
    rules(rule(WWW, EDIT, headers=["content-type"]))
    ok, detail, _ = checked(WWW, EDIT)["direct upload"]
    assert ok is False and "by POST" not in detail and detail.count("by PUT") == 2
    rules(rule(WWW, EDIT))
    found = checked(WWW, EDIT)
    assert found["direct upload"][:2] == (True, f"pages of {WWW}, {EDIT} may send to {settings.endpoint_url}")
    assert (found["other pages"][0], found["hosts"][0]) == (True, True)


def test_a_bucket_that_lets_all_pages_upload(checked, rules):
    rules(rule("*"))
    found = checked(WWW)
    assert found["direct upload"][0] is True
    ok, detail, mend = found["other pages"]
    assert ok is False and "by PUT and POST" in detail and mend.startswith("take the * out")
    rules(rule("*", methods=["GET"]), rule("https://*", methods=["PUT"]))
    assert checked(WWW)["other pages"][0] is not None


def test_the_host_that_is_signed_for_is_asked(checked, rules, settings, proxy):
    rules(rule(WWW))
    public = dataclasses.replace(settings, public_endpoint_url=proxy.endpoint_url)
    assert checked(WWW, store=public)["direct upload"][:2] == (True, f"pages of {WWW} may send to {proxy.endpoint_url}")
    assert proxy.methods() == {"OPTIONS": 4}  # two ways for the site, two for nobody
    paths = {exchange.path for exchange in proxy.exchanges}
    assert paths == {f"/{settings.bucket}/uploads/{'0' * 32}", f"/{settings.bucket}/"}
    proxy.fail(answer(301, "Moved"), method="OPTIONS")
    assert "(301)" in checked(WWW, store=public)["direct upload"][1]
    nowhere = dataclasses.replace(settings, public_endpoint_url=f"http://127.0.0.1:{free_port()}")
    found = checked(WWW, EDIT, store=nowhere)
    assert found["direct upload"][0] is False and found["direct upload"][2] == "s3-public-endpoint-url: correct it"
    assert found["other pages"][0] is None


def test_hosts_of_one_origin_and_of_one_domain(checked, settings):
    own = settings.endpoint_url
    assert checked(own)["hosts"][0] is False
    host = urlsplit(own).hostname
    ok, detail, mend = checked(f"http://{host}:1")["hosts"]
    assert ok is None and "shares the domain" in detail and mend.startswith("s3-public-endpoint-url")


def test_nothing_is_tried_where_nothing_may_be(checked, settings):
    found = checked(WWW, why="not tried: the bucket cannot be read")
    assert set(found.values()) == {(None, "not tried: the bucket cannot be read", "")}


def test_a_staging_area_that_the_store_does_not_encrypt(checked, settings, pytestconfig):
    sealed = dataclasses.replace(settings, encryption=client_side(one=bytes(32)))
    ok, detail, mend = checked(WWW, store=sealed)["direct upload"]
    if pytestconfig.getoption("--s3") == "ministack":  # which echoes what it is asked for
        assert "may not send" in detail
    else:
        assert ok is False and "no upload can begin: " in detail and "direct-upload-staging" in mend
    assert not [key for key in bucket_keys(settings) if key.startswith("uploads/")]


def test_the_command_has_them(settings, bucket, rules, tmp_path):
    path = tmp_path / "site.conf"
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
    lines = ("owner www.example.org", f"direct-upload-origins {WWW}")
    path.write_text("%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, *lines))

    def found(*options):
        told = document(s3blobs("--config", path, "check", "--json", *options, env=keys_of(settings)))
        return {finding["name"]: finding for finding in told["findings"]}

    assert found()["direct upload"]["mend"] == "s3blobs cors"
    done = s3blobs("--config", path, "cors", "--yes", env=keys_of(settings))
    assert done.returncode == 0, done.stderr
    after = found()
    assert (after["direct upload"]["ok"], after["other pages"]["ok"]) == (True, True)
    assert found("--no-write")["direct upload"]["detail"] == "not tried: opened for reading only"
