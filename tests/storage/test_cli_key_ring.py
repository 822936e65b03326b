"""`s3blobs keys list|add|activate|rotate|retire|verify`: what they do, refuse and print."""

from __future__ import annotations

import base64
import dataclasses
import signal
import subprocess
from datetime import timedelta

import pytest
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from rings import section_of
from rolling_keys import (
    BLOB,
    ONE,
    OURS,
    TWO,
    after,
    alone,
    before,
    blob_keys,
    configured,
    content,
    fill,
    read,
    used,
)
from rolling_keys import (
    section as mode_section,
)
from servers.faults import answer
from sites import raw_client, wait_until

from collective.s3blobstorage.encryption.register import read as entry_of
from collective.s3blobstorage.errors import ObjectMissing
from collective.s3blobstorage.keys import MARKER, USAGE
from collective.s3blobstorage.storage.owner import Marker

WITH_KEYS = ("client-side", "sse-c")
OWNER = "www.example.org"


class Ring:
    """The commands over one prefix. ``use`` writes the zope.conf that says how objects are encrypted."""

    def __init__(self, secure, folder, stores):
        self.secure, self.folder, self.stores = secure, folder, stores
        self.conf = folder / "site.conf"
        self.printed = []

    def use(self, encryption, *more, owner=OWNER):
        self.store = dataclasses.replace(self.secure, encryption=encryption)
        base = f"<filestorage>\n  path {self.folder}/Data.fs\n</filestorage>"
        owned = [f"owner {owner}"] if owner else []
        text = section(self.store, self.folder / "cache", base, *owned, *more)
        self.conf.write_text(f"%import collective.s3blobstorage\n{text}")
        return self

    def run(self, *arguments, **options):
        result = s3blobs("--config", self.conf, "keys", *arguments, env=self.env(), **options)
        self.printed += [result.stdout, result.stderr]
        return result

    def env(self):
        keys = keys_of(self.store)
        for source in getattr(self, "more_keys", ()):
            keys |= source
        return keys

    def document(self, *arguments, status=0):
        result = self.run(*arguments, "--json")
        assert result.returncode == status, (result.stdout, result.stderr)
        return document(result)

    def states(self):
        return {key["id"]: key["state"] for key in self.document("list")["keys"]}

    def open(self, encryption, **options):
        return self.stores.open(encryption, **options)


@pytest.fixture
def ring(secure, tmp_path, stores):
    made = Ring(secure, tmp_path, stores)
    yield made
    # No key in anything that was printed, in no spelling.
    for key in (ONE, TWO):
        for spelled in (key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode(), repr(key)):
            assert not any(spelled in printed or spelled.strip("=") in printed for printed in made.printed)


def filled(ring, tmp_path, mode="client-side", keys=OURS):
    """A prefix of ours with objects that need the key ``one``."""
    store = ring.open(before(mode))
    fill(store, tmp_path, keys)
    store.put_bytes(MARKER, Marker(OWNER, False).to_json())
    return store


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_from_one_key_to_the_next(ring, tmp_path, mode):
    """Step by step as docs/encryption.md has it."""
    filled(ring, tmp_path, mode)
    ring.use(before(mode))
    # 1. Every process has the new key and writes with the former one.
    both = configured([mode_section(mode, "one", one=ONE, two=TWO)])
    ring.use(both)
    assert ring.states() == {"one": "active", "two": None}
    refused = ring.run("activate", "two")
    assert refused.returncode == 2
    assert "active-key of zope.conf is one: name the other one there first, in every process." in one_line(refused)
    added = ring.run("add", "two")
    assert added.returncode == 0 and "run s3blobs keys activate two" in added.stdout, added.stderr
    assert "the bucket knows the key two since" in one_line(ring.run("add", "two"))
    assert "there is no key three in zope.conf" in one_line(ring.run("add", "three"))
    assert ring.states() == {"one": "active", "two": "added"}
    # 2. It is the active one.
    ring.use(after(mode))
    assert "run `s3blobs keys list`" in one_line(ring.run("retire", "none"))
    activated = ring.document("activate", "two")
    assert activated["state"] == "active" and "restart every process" in activated["next"]
    assert ring.states() == {"one": "superseded", "two": "active"}
    needed = one_line(ring.run("retire", "one"))
    assert "the key one is needed by 4 objects" in needed and "run `s3blobs keys rotate`" in needed
    # 3. Everything is brought to it.
    planned = ring.document("rotate", "--dry-run")
    beside = int(mode == "sse-c")
    assert planned["rewrapped"]["objects"] == 4 + beside and planned["dry_run"]
    assert used(ring.open(after(mode)), OURS) == {(mode, "one")}
    done = ring.document("rotate")
    assert done["rewrapped"] == planned["rewrapped"] and done["failed"] == {}
    listed = ring.document("list")
    by_id = {key["id"]: key for key in listed["keys"]}
    assert (by_id["one"]["objects"], by_id["two"]["objects"]) == (0, 4) and listed["counted"]
    assert by_id["two"]["beside"] == beside
    assert by_id["two"]["writes"] and not by_id["one"]["writes"]
    # 4. Nothing needs the former one.
    assert "is the active one" in one_line(ring.run("retire", "two", "--yes"))
    untyped = ring.run("retire", "one", input="on\n")
    assert untyped.returncode == 1 and "one was not typed" in untyped.stderr
    dry = ring.run("retire", "one", "--dry-run")
    assert dry.returncode == 0 and "nothing needs it" in dry.stdout and ring.states()["one"] == "superseded"
    retired = ring.run("retire", "one", input="one\n")
    assert retired.returncode == 0 and "the key may leave zope.conf" in retired.stdout
    ring.use(alone(mode))
    assert ring.states() == {"one": "retired", "two": "active"}
    assert ring.run("verify", "--objects", "all").returncode == 0
    last = ring.open(alone(mode))
    assert {key: read(last, key) for key in OURS} == {key: content(key) for key in OURS}


def test_list_says_where_keys_are_and_what_needs_them(ring, tmp_path):
    filled(ring, tmp_path)
    ring.use(configured([mode_section("client-side", "two", two=TWO)]))
    text = ring.run("list").stdout
    assert "not in the bucket yet" in text and "not in zope.conf" in text and "never yet: give --count" in text
    assert "value of the configuration" in text and "active-key" in text
    counted = ring.document("list", "--count")
    by_id = {key["id"]: key for key in counted["keys"]}
    assert by_id["one"]["objects"] == 4 and by_id["one"]["bytes"] == sum(
        len(content(key)) + 48 + 16 * max(1, -(-len(content(key)) // 65536)) for key in OURS
    )
    assert by_id["one"]["source"] is None and by_id["one"]["in_bucket"] and not by_id["one"]["in_configuration"]
    assert by_id["two"]["state"] is None and by_id["two"]["in_configuration"]
    assert by_id["one"]["age_days"] == 0
    # Kept for who asks next, who asks nothing of the objects.
    again = ring.document("list")
    assert again["counted"] == counted["counted"] and again["usage"] == counted["usage"]
    ring.use(before("client-side"), "read-only on")
    assert ring.document("list", "--count")["keys"][0]["objects"] == 4


def test_list_of_a_site_without_keys(ring, tmp_path):
    ring.use(None)
    assert "there is no key in zope.conf nor in the bucket" in ring.run("list").stdout
    for verb in (("add", "one"), ("activate", "one"), ("verify",)):
        assert "zope.conf has no key" in one_line(ring.run(*verb))
    assert "the bucket knows no key one" in one_line(ring.run("retire", "one"))


def test_what_was_counted_of_another_prefix_is_not_kept_there(ring, tmp_path):
    store = filled(ring, tmp_path)
    ring.use(before("client-side"), owner="staging.example.org")
    result = ring.run("list", "--count")
    assert result.returncode == 0 and "belongs to owner" in one_line(result)
    with pytest.raises(ObjectMissing):
        store.unencrypted().get_bytes(USAGE)


@pytest.mark.parametrize("verb", [("add", "two"), ("activate", "two"), ("rotate",), ("retire", "one", "--yes")])
def test_another_owners_prefix(ring, tmp_path, verb):
    store = filled(ring, tmp_path)
    ring.use(after("client-side"), owner="staging.example.org")
    result = ring.run(*verb)
    assert result.returncode == 2 and "belongs to owner" in one_line(result)
    assert entry_of(store.unencrypted(), "one").state == "active" and entry_of(store.unencrypted(), "two") is None
    assert used(store, OURS) == {("client-side", "one")}


@pytest.mark.parametrize("verb", [("add", "two"), ("activate", "two"), ("rotate",), ("retire", "one", "--yes")])
def test_read_only(ring, tmp_path, verb):
    filled(ring, tmp_path)
    ring.use(after("client-side"), "read-only on")
    result = ring.run(*verb)
    assert result.returncode == 2 and "read-only is on" in one_line(result)


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_a_wrong_key_is_one_sentence(ring, tmp_path, mode):
    filled(ring, tmp_path, mode)
    other = bytes(range(7, 39))
    ring.use(configured([mode_section(mode, "one", one=other)]))
    result = ring.run("verify")
    assert result.returncode == 1 and result.stderr == ""
    assert "the key one (value of the configuration) is not the one that the bucket knows" in result.stdout
    assert ring.run("verify", "--objects", "2").returncode == 1
    for verb in (("rotate",), ("rotate", "--dry-run")):
        result = ring.run(*verb)
        assert result.returncode == 2 and "is not the one that the bucket knows by this id" in one_line(result)
    ring.use(configured([mode_section(mode, "one", one=ONE)]))
    env = {name: value for name, value in ring.env().items() if name != "SITE_KEY_ONE"}
    result = s3blobs("--config", ring.conf, "keys", "verify", env=env)
    assert result.returncode == 2 and "SITE_KEY_ONE" in one_line(result).upper()


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_verify_reads_objects(ring, tmp_path, mode, s3, secure):
    keys = blob_keys(9)
    store = filled(ring, tmp_path, mode, keys)
    ring.use(before(mode))
    some = ring.document("verify", "--objects", "4")
    [row] = some["opened"]
    assert (row["mode"], row["objects"], row["key"].partition("/")[0]) == (mode, 4, "one") and some["failed"] == {}
    assert ring.document("verify", "--objects", "20")["opened"][0]["objects"] == 9
    everything = ring.document("verify", "--objects", "all")
    assert everything["opened"][0]["objects"] == 9
    assert everything["opened"][0]["bytes"] == sum(len(content(key)) for key in keys)
    # One that is another's, with its size and metadata.
    if mode == "client-side":
        large = max(keys, key=lambda key: len(content(key)))
        put = s3.get_object(Bucket=secure.bucket, Key=f"p/{large}")
        body = bytearray(put["Body"].read())
        body[-1] ^= 1
        s3.put_object(Bucket=secure.bucket, Key=f"p/{large}", Body=bytes(body), Metadata=put["Metadata"])
    else:
        large = BLOB
        path = tmp_path / "other"
        path.write_bytes(b"other")
        store.put_file(large, path, metadata={}, sha256=bytes(32))
    damaged = ring.document("verify", "--objects", "all", status=1)
    assert damaged["failed"] == {"Corrupt": 1} and damaged["failures"][0]["key"] == large


def test_verify_takes_a_number_or_all(ring):
    ring.use(before("client-side"))
    for wrong in ("0", "-1", "some", "1.5"):
        result = ring.run("verify", "--objects", wrong)
        assert result.returncode == 2 and "neither a whole number above 0 nor `all`" in result.stderr


def test_retire_counts_former_versions(ring, tmp_path, s3, secure):
    s3.put_bucket_versioning(Bucket=secure.bucket, VersioningConfiguration={"Status": "Enabled"})
    filled(ring, tmp_path)
    ring.use(after("client-side"))
    done = ring.document("rotate")
    assert done["rewrapped"]["objects"] == 4
    refused = one_line(ring.run("retire", "one", "--yes"))
    assert "needed by 4 former versions that the bucket keeps" in refused and "gc --versions" in refused
    for version in s3.list_object_versions(Bucket=secure.bucket)["Versions"]:
        if not version["IsLatest"]:
            s3.delete_object(Bucket=secure.bucket, Key=version["Key"], VersionId=version["VersionId"])
    assert ring.run("retire", "one", "--yes").returncode == 0


def test_retire_counts_what_was_deleted_and_can_come_back(ring, tmp_path, s3, secure):
    s3.put_bucket_versioning(Bucket=secure.bucket, VersioningConfiguration={"Status": "Enabled"})
    store = filled(ring, tmp_path)
    ring.use(after("client-side"))
    store.delete([BLOB])
    assert ring.document("rotate")["rewrapped"]["objects"] == 3
    assert "needed by 4 former versions" in one_line(ring.run("retire", "one", "--yes"))


def test_retire_is_refused_while_something_cannot_be_looked_at(ring, tmp_path, tls_proxy):
    filled(ring, tmp_path)
    ring.use(after("client-side"))
    ring.document("rotate")
    tls_proxy.fail(answer(403, "AccessDenied"), method="HEAD", target=BLOB, times=1000)
    refused = one_line(ring.run("retire", "one", "--yes"))
    assert f"1 objects could not be looked at and may need the key one, the first {BLOB}" in refused
    tls_proxy.forgive()
    assert ring.states()["one"] == "superseded"


def test_retire_is_refused_while_a_source_has_the_key(ring, tmp_path, secure):
    filled(ring, tmp_path)

    def source(data):
        """Another prefix that has a key of that id."""
        encryption = configured([mode_section("client-side", "one", one=data)])
        ring.more_keys = [{"OTHER_KEY": base64.b64encode(data).decode()}]
        lines = [
            "<s3source production>",
            f"bucket-name {secure.bucket}",
            "s3-prefix elsewhere",
            f"s3-endpoint-url {secure.endpoint_url}",
            f"s3-region {secure.region}",
            f"s3-ca-bundle {secure.ca_bundle}",
            "s3-access-key $(SITE_ACCESS_KEY)",
            "s3-secret-key $(SITE_SECRET_KEY)",
            section_of(encryption).replace("SITE_KEY_ONE", "OTHER_KEY"),
            "</s3source>",
        ]
        return "\n".join(lines)

    ring.use(after("client-side"), source(ONE))
    ring.document("rotate")
    refused = one_line(ring.run("retire", "one", "--yes"))
    assert "the source production has the key one too" in refused and "s3blobs mirror" in refused
    ring.use(after("client-side"), source(bytes(range(9, 41))))  # another key, by chance of the same id
    assert ring.run("retire", "one", "--yes").returncode == 0


def test_activate_wants_the_section_in_front(ring, tmp_path):
    filled(ring, tmp_path)
    ring.use(before("client-side"))
    conf = ring.conf.read_text()
    ring.conf.write_text(conf.replace("<client-side-encryption>", "<sse-s3/>\n  <client-side-encryption>", 1))
    refused = one_line(ring.run("activate", "one"))
    assert "is one of another section than the first" in refused and "sse-s3" in refused


def test_convert_is_named_where_something_is_left(ring, tmp_path):
    fill(ring.open(before("none")), tmp_path)
    ring.open(before("none")).put_bytes(MARKER, Marker(OWNER, False).to_json())
    ring.use(before("client-side"))
    left = ring.run("rotate")
    assert left.returncode == 0 and "4 objects" in left.stdout and "--convert brings them to this one" in left.stdout
    planned = ring.run("rotate", "--convert", "--dry-run").stdout
    assert "would be converted" in planned
    done = ring.document("rotate", "--convert", "--limit-rate", "10MB")
    assert done["converted"]["objects"] == 4 and done["left"]["objects"] == 0


def test_what_failed_is_listed_and_the_status_says_so(ring, tmp_path, tls_proxy):
    filled(ring, tmp_path)
    ring.use(after("client-side"))
    tls_proxy.fail(answer(403, "AccessDenied"), method="PUT", target=BLOB, times=1000)
    told = ring.document("rotate", status=1)
    assert told["failed"] == {"Refused": 1} and told["failures"][0]["key"] == BLOB
    text = ring.run("rotate")
    assert text.returncode == 1 and f"{BLOB}: The object store refused" in text.stdout
    tls_proxy.forgive()
    assert ring.document("rotate")["rewrapped"]["objects"] == 1


def test_ctrl_c_loses_nothing(ring, tmp_path, tls_proxy):
    keys = blob_keys(60)
    filled(ring, tmp_path, keys=keys)
    ring.use(after("client-side"))
    tls_proxy.reset()
    process = subprocess.Popen(
        [SCRIPT, "--config", ring.conf, "keys", "rotate", "--concurrency", "1", "--json"],
        env=ring.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: sum(exchange.operation == "CopyObject" for exchange in tls_proxy.exchanges) > 5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after the copies that are under way" in err
    rest = ring.document("rotate")
    assert rest["resumed_after"] in keys and rest["rewrapped"]["objects"] == 60
    assert used(ring.open(after("client-side")), keys) == {("client-side", "two")}


def test_nothing_of_the_register_is_garbage(ring, tmp_path, secure):
    filled(ring, tmp_path)
    ring.use(after("client-side"))
    ring.document("rotate")
    below = [
        line["Key"] for line in raw_client(secure).list_objects_v2(Bucket=secure.bucket, Prefix="p/keys/")["Contents"]
    ]
    assert below == ["p/keys/.rotation", "p/keys/.usage", "p/keys/one", "p/keys/two"]
    result = s3blobs("--config", ring.conf, "status", "--json", env=ring.env())
    assert document(result)["objects"]["other"]["objects"] == 0


def told(ring, *arguments):
    result = s3blobs("--config", ring.conf, *arguments, env=ring.env())
    ring.printed += [result.stdout, result.stderr]
    return result


def checked(ring):
    """Exit status, and the finding about keys."""
    result = told(ring, "check", "--json", "--no-base", "--no-write")
    [finding] = [each for each in document(result)["findings"] if each["name"] == "keys"]
    return result.returncode, finding


def test_status_shows_keys_and_the_figures_that_are_kept(ring, tmp_path):
    filled(ring, tmp_path)
    ring.use(after("client-side"))
    encryption = document(told(ring, "status", "--json"))["encryption"]
    assert (encryption["mode"], encryption["error"], encryption["counted"]) == ("client-side", None, None)
    assert {key["id"]: key["state"] for key in encryption["keys"]} == {"one": "active", "two": None}
    assert "never yet: s3blobs keys list --count" in told(ring, "status").stdout
    assert "run `s3blobs keys add two` first" in one_line(ring.run("activate", "two"))
    ring.document("rotate")
    encryption = document(told(ring, "status", "--json"))["encryption"]
    assert {key["id"]: (key["state"], key["objects"]) for key in encryption["keys"]} == {
        "one": ("superseded", 0),
        "two": ("active", 4),
    }
    text = told(ring, "status").stdout
    assert f"keys counted        {encryption['counted']}" in text and "key two" in text and "4 objects" in text


def test_status_says_that_the_register_is_damaged(ring, tmp_path):
    store = filled(ring, tmp_path)
    ring.use(before("client-side"))
    store.unencrypted().put_bytes("keys/one", b"damaged")
    result = told(ring, "status")
    assert result.returncode == 0 and "keys                not shown: the entry keys/one" in result.stdout
    _, finding = checked(ring)
    assert finding["ok"] is False and "the entry keys/one under s3-prefix is damaged" in finding["detail"]


def test_check_says_which_key_is_missing_too_old_or_new(ring, tmp_path):
    store = filled(ring, tmp_path)
    ring.use(before("client-side"))
    status, finding = checked(ring)
    assert (finding["ok"], finding["detail"]) == (True, "one is active, 0 hours old, writes")
    ring.use(configured([mode_section("client-side", "one", one=ONE, two=TWO)]))
    _, finding = checked(ring)
    assert finding["ok"] is True and finding["mend"].startswith("s3blobs keys add two")
    # Fourteen months later
    entry = entry_of(store.unencrypted(), "one")
    long_ago = {state: moment - timedelta(days=430) for state, moment in entry.since.items()}
    store.unencrypted().put_bytes("keys/one", dataclasses.replace(entry, since=long_ago).to_json())
    ring.use(before("client-side"))
    status, finding = checked(ring)
    assert status == 1 and finding["ok"] is False and finding["mend"].endswith("another key-max-age; 0: never")
    assert "older than key-max-age, 365 days" in finding["detail"]
    for enough in ("key-max-age 500d", "key-max-age 0"):
        ring.use(before("client-side"), enough)
        assert checked(ring)[1]["ok"] is True
    ring.use(alone("client-side"))
    _, finding = checked(ring)
    assert finding["ok"] is False and "objects may need one, which zope.conf does not have" in finding["detail"]
    ring.use(None)
    assert checked(ring)[1]["ok"] is False  # also where encryption was taken out of zope.conf


def test_check_of_a_site_without_keys(ring):
    ring.use(None)
    assert checked(ring)[1]["ok"] is None
