"""``s3blobs lifecycle``: the bucket's rules, read, written and read back by a real store."""

from __future__ import annotations

import dataclasses

import pytest
from command_line import document, keys_of, one_line, s3blobs, section
from servers.faults import answer
from sites import raw_client

from collective.s3blobstorage.errors import Refused, StoreError
from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.maintenance.lifecycle import Wishes, difference, does_the_same, ours
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.owner import Marker

THEIRS = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
HARM = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 300}}


@pytest.fixture
def store(settings, bucket):
    store = open_store(settings)
    yield store
    store.close()


@pytest.fixture
def conf(settings, bucket, tmp_path):
    def write(*more):
        path = tmp_path / "site.conf"
        base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
        path.write_text("%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, *more))
        return path

    return write


def lifecycle(conf, *arguments, settings, **options):
    return s3blobs("--config", conf, "lifecycle", *arguments, env=keys_of(settings), **options)


def same(rules, expected):
    return len(rules) == len(expected) and all(any(does_the_same(a, b) for b in rules) for a in expected)


def test_rules_are_read_and_replaced(store):
    assert store.lifecycle() == ()
    wanted = difference([THEIRS], "plone/site", Wishes(7, 30)).wanted
    store.set_lifecycle(wanted)
    assert same(store.lifecycle(), wanted)
    assert not difference(store.lifecycle(), "plone/site", Wishes(7, 30)).is_needed
    store.set_lifecycle([])
    assert store.lifecycle() == ()
    with pytest.raises(Refused, match="read-only"):
        open_store(store.settings, read_only=True).set_lifecycle([THEIRS])


@pytest.mark.parametrize("kept", ["varies_by_storage_class", None])
def test_from_which_size_on_objects_are_moved_stays(store, kept):
    """Of Amazon S3: it stands beside the rules in the answer, and the default holds where it is not sent again."""
    store.set_lifecycle([THEIRS])
    told, sent = store.connection.reader.meta.events, []

    def answered(parsed, **kwargs):
        parsed["TransitionDefaultMinimumObjectSize"] = kept

    told.register_last("after-call.s3.GetBucketLifecycleConfiguration", answered)
    store.connection.writer.meta.events.register(
        "before-call.s3.PutBucketLifecycleConfiguration", lambda params, **kwargs: sent.append(params["headers"])
    )
    store.set_lifecycle(difference([THEIRS], "", Wishes(7)).wanted)
    assert [headers.get("x-amz-transition-default-minimum-object-size") for headers in sent] == [kept]
    assert len(store.lifecycle()) == 2


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (answer(403, "AccessDenied"), Refused, "s3:{}LifecycleConfiguration on the bucket"),
        (answer(501, "NotImplemented"), StoreError, "does not know lifecycle rules"),
        (answer(405, "MethodNotAllowed"), StoreError, "s3blobs gc --versions"),
    ],
)
def test_stores_that_refuse_say_why(settings, bucket, proxy, fault, error, says):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    proxy.fail(fault, target="lifecycle", times=9)
    for method, ask in (("Get", store.lifecycle), ("Put", lambda: store.set_lifecycle([THEIRS]))):
        with pytest.raises(error, match=says.format(method)) as caught:
            ask()
        assert bucket not in str(caught.value)
    store.close()


def test_the_command_shows_asks_writes_and_reads_back(conf, settings, store):
    store.set_lifecycle([THEIRS])
    path = conf()
    shown = lifecycle(path, "--dry-run", settings=settings)
    assert (shown.returncode, shown.stderr) == (0, "") and same(store.lifecycle(), [THEIRS])
    assert '+   "DaysAfterInitiation": 7' in shown.stdout and "Noncurrent" not in shown.stdout
    assert not [line for line in shown.stdout.splitlines() if line.startswith("-")]
    no = lifecycle(path, settings=settings, input="yes\n")
    assert no.returncode == 1 and f"nothing was changed: {settings.bucket} was not typed" in no.stderr
    assert same(store.lifecycle(), [THEIRS])
    done = lifecycle(path, settings=settings, input=f"{settings.bucket}\n")
    assert done.returncode == 0 and "written, and read back" in done.stdout
    assert same(store.lifecycle(), difference([THEIRS], settings.prefix, Wishes(7)).wanted)
    again = lifecycle(path, "--json", settings=settings)
    told = document(again)
    assert (again.returncode, told["needed"], told["changed"], told["harm"]) == (0, False, False, [])
    gone = lifecycle(path, "--remove", "unfinished", "--yes", settings=settings)
    assert gone.returncode == 0 and same(store.lifecycle(), [THEIRS])


def test_old_versions_and_classes(conf, settings, store):
    raw_client(settings).put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    path = conf("gc-keep 45d", "upload-expiry 7d")
    result = lifecycle(path, "--move", "STANDARD_IA=60", "--yes", "--json", settings=settings)
    told = document(result)
    assert result.returncode == 0 and told["changed"] and told["keeps_versions"]
    rules = ours(told["wanted"], settings.prefix)
    assert rules["unfinished uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 8}
    assert rules["old versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 45}
    assert rules["storage classes"]["Transitions"] == [{"Days": 60, "StorageClass": "STANDARD_IA"}]
    assert same(store.lifecycle(), told["wanted"])


def test_shared_objects_are_moved_too_where_there_may_be_some(conf, settings, store):
    path = conf()
    lifecycle(path, "--move", "STANDARD_IA=60", "--yes", settings=settings)
    assert "storage classes of shared objects" not in ours(store.lifecycle(), settings.prefix)
    store.put_bytes(MARKER, Marker(None, False, deduplicated=True).to_json())
    lifecycle(path, "--move", "STANDARD_IA=60", "--yes", settings=settings)
    rules = ours(store.lifecycle(), settings.prefix)
    assert rules["storage classes of shared objects"]["Filter"]["Prefix"].endswith("objects/")
    lifecycle(path, "--remove", "move", "--yes", settings=settings)
    assert set(ours(store.lifecycle(), settings.prefix)) == {"unfinished uploads"}


def test_a_rule_of_others_that_deletes_blobs_is_told(conf, settings, store):
    store.set_lifecycle([HARM])
    result = lifecycle(conf(), "--yes", "--json", settings=settings)
    told = document(result)
    assert result.returncode == 1 and told["changed"]
    assert told["harm"] == ["the rule 'all' deletes blobs or what belongs to them (everything) after 300 days"]
    assert any(does_the_same(HARM, rule) for rule in store.lifecycle())
    shown = lifecycle(conf(), settings=settings)
    assert shown.returncode == 1 and told["harm"][0] in shown.stdout


@pytest.mark.parametrize(
    ("lines", "arguments", "says"),
    [
        (["read-only on"], [], "read-only is on"),
        (["upload-expiry 3d"], ["--unfinished", "3"], "give more than 3, or lower upload-expiry"),
        ([], ["--noncurrent", "6"], "would delete what gc-keep keeps"),
        ([], ["--noncurrent", "9", "--remove", "noncurrent"], "contradict each other"),
        ([], ["--move", "GLACIER=90"], "is an archive"),
        ([], ["--move", "STANDARD_IA=29"], "nothing goes into STANDARD_IA before day 30"),
        ([], ["--move", "STANDARD_IA"], "as STANDARD_IA=30"),
    ],
)
def test_what_cannot_be_done_is_said(conf, settings, store, lines, arguments, says):
    result = lifecycle(conf(*lines), *arguments, "--yes", settings=settings)
    assert result.returncode == 2 and says in result.stderr
    assert store.lifecycle() == ()


def test_another_owners_bucket_is_left_alone(conf, settings, store):
    raw_client(settings).put_object(
        Bucket=settings.bucket, Key=f"{settings.prefix}/.s3blobs.json".lstrip("/"), Body=Marker("one", False).to_json()
    )
    result = lifecycle(conf("owner two"), "--yes", settings=settings)
    assert result.returncode == 2 and "one" in one_line(result)
    assert store.lifecycle() == ()
