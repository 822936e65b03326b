"""The encryption sections: values, every key with every kind of wrong value, what must agree, no secret anywhere."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import traceback

import pytest
import ZConfig
from schemas import storage_schema
from test_config_wrong_values import ALLOWED, EXPECTED, KINDS, LATER, NOT_SHOWN, same

from collective.s3blobstorage.encryption.interfaces import IEncryption
from collective.s3blobstorage.encryption_keys import KEYS

URL = "file:///etc/plone/zope.conf"
ONE, TWO = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
MODES = ("sse-s3", "sse-kms", "sse-c", "client-side-encryption", "no-encryption")
KEYED = ("sse-c", "client-side-encryption")


@pytest.fixture(autouse=True)
def environment_without_aws(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def parsed(*sections: str):
    """The factory; the first line of the first section is line 3 of the file."""
    lines = ["%import collective.s3blobstorage", "<s3blobstorage>", *sections]
    lines += ["bucket-name plone-blobs", "cache-dir /var/cache/plone-blobs", "<mappingstorage/>", "</s3blobstorage>"]
    config, _ = ZConfig.loadConfigFile(storage_schema(), io.StringIO("\n".join([*lines, ""])), url=URL)
    return config.storage


def encryption(*sections: str):
    return parsed(*sections).settings.store.encryption


def failure(*sections: str) -> str:
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        encryption(*sections)
    return str(caught.value)


def mode(type: str, *lines: str) -> str:
    return "\n".join([f"<{type}>", *lines, f"</{type}>"])


def key(id: str, line: str = f"value {ONE}", type: str = "key") -> str:
    return f"<{type} {id}>\n{line}\n</{type}>"


def kms(id: str) -> str:
    return key(id, "kms-key-id alias/plone", "kms-key")


# Values


def test_nothing_is_asked_for_without_a_section():
    assert encryption() is None


@pytest.mark.parametrize("type", MODES)
def test_each_section_alone(type):
    found = encryption(mode(type, *([key("k1")] if type in KEYED else [])))
    assert IEncryption.providedBy(found) and not found.required
    assert found.name == {"client-side-encryption": "client-side", "no-encryption": "none"}.get(type, type)
    assert (found.ring is not None) is (type in KEYED)
    assert found.seals is (type == "client-side-encryption")


def test_sse_kms():
    asked = encryption(mode("sse-kms")).server_side.write_parameters()
    assert asked == {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": False}
    lines = ["kms-key-id alias/plone", "encryption-context site=intranet x=y=z", "bucket-key on"]
    asked = dict(encryption(mode("sse-kms", *lines)).server_side.write_parameters())
    assert base64.b64decode(asked.pop("SSEKMSEncryptionContext")) == b'{"site":"intranet","x":"y=z"}'
    assert asked == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/plone", "BucketKeyEnabled": True}
    asked = encryption(mode("sse-kms", "dsse on")).server_side.write_parameters()
    assert asked == {"ServerSideEncryption": "aws:kms:dsse"}


@pytest.mark.parametrize("type", KEYED)
def test_a_ring(type, tmp_path):
    (tmp_path / "key").write_text(TWO)
    (tmp_path / "key").chmod(0o600)
    three = base64.b64encode(b"3" * 32).decode()
    keys = [key("2026-11"), key("b", f"file {tmp_path}/key"), key("c", f"command /bin/echo '{three}'"), kms("d")]
    found = encryption(mode(type, "active-key B", *keys))
    assert found.ring.ids == ("b", "2026-11", "c", "d")
    assert {id: provider.source for id, provider in found.ring.providers.items()} == {
        "2026-11": "value of the configuration",
        "b": f"file {tmp_path}/key",
        "c": "command /bin/echo",
        "d": "AWS KMS alias/plone",
    }
    assert [found.ring.key(id).material for id in ("2026-11", "b", "c")] == [b"\1" * 32, b"\2" * 32, b"3" * 32]


def test_a_key_of_kms_says_where():
    lines = "kms-key-id alias/x\nregion eu-central-1\nendpoint-url https://kms.example.org\nprofile plone"
    provider = encryption(mode("sse-c", key("k1", lines, "kms-key"))).ring.providers["k1"]
    where = {"region": "eu-central-1", "endpoint_url": "https://kms.example.org", "profile": "plone"}
    assert provider._asked == ("alias/x", where) and provider.keeps


def test_ids_are_in_lower_case_as_zconfig_gives_the_names_of_sections():
    ring = encryption(mode("sse-c", "active-key Main.Key_1", key("MAIN.key_1"), key("k2", f"value {TWO}"))).ring
    assert ring.ids == ("main.key_1", "k2")


def test_the_only_key_is_the_active_one():
    assert encryption(mode("sse-c", key("k1"))).ring.active_id == "k1"


def test_the_order_of_the_file_counts():
    client = mode("client-side-encryption", key("c1"))
    assert encryption(client, mode("sse-kms")).name == "client-side"
    assert encryption(mode("sse-kms"), client).name == "sse-kms"
    back = encryption(mode("no-encryption"), client)
    assert (back.name, back.seals, back.ring.ids) == ("none", False, ("c1",))


def test_sections_in_a_file_of_their_own(tmp_path):
    """For configurations that a template writes anew."""
    (tmp_path / "encryption.conf").write_text(mode("client-side-encryption", key("k1")) + "\n")
    assert encryption(f"%include {tmp_path}/encryption.conf").ring.ids == ("k1",)


def test_require_encryption():
    assert encryption(mode("sse-s3"), "require-encryption on").required
    assert not encryption(mode("sse-s3"), "require-encryption off").required
    assert encryption("require-encryption off") is None


def test_the_key_of_zodb_s3blobs_is_a_ring_of_one():
    found = encryption(f"s3-sse-customer-key {ONE}")
    assert (found.name, found.ring.ids, found.required) == ("sse-c", ("customer-key",), False)
    assert found.ring.active.material == b"\1" * 32
    assert found.ring.providers["customer-key"].source == "s3-sse-customer-key"


@pytest.mark.parametrize(("type", "name"), [("sse-c", "sse-c"), ("client-side-encryption", "client-side")])
def test_beside_a_section_it_reads_only(type, name):
    found = encryption(f"s3-sse-customer-key {ONE}", mode(type, key("k1", f"value {TWO}")))
    assert (found.name, found.ring.ids) == (name, ("k1", "customer-key"))
    assert [reader.id for reader in found.readers if reader.name == "sse-c"][-1] == "customer-key"


def test_a_source_has_a_ring_of_its_own():
    ours, theirs = mode("client-side-encryption", key("k1")), mode("client-side-encryption", key("k1", f"value {TWO}"))
    factory = parsed(ours, f"<s3source>\nbucket-name production\n{theirs}\nrequire-encryption on\n</s3source>")
    [source] = factory.settings.sources
    rings = factory.settings.store.encryption.ring, source.store.encryption.ring
    assert [ring.active.material for ring in rings] == [b"\1" * 32, b"\2" * 32]
    assert (factory.settings.store.encryption.required, source.store.encryption.required) == (False, True)


def test_no_key_is_read_and_no_program_run_while_parsing(tmp_path):
    keys = [key("k1", f"file {tmp_path}/none"), key("k2", f"command /usr/bin/touch {tmp_path}/run"), kms("k3")]
    encryption(mode("client-side-encryption", "active-key k1", *keys))
    assert not list(tmp_path.iterdir())


def test_parsing_does_not_import_boto3(tmp_path):
    path = tmp_path / "storage.conf"
    sections = "\n".join([mode("client-side-encryption", kms("k1")), mode("sse-c", key("k2")), mode("sse-kms")])
    path.write_text(
        f"%import collective.s3blobstorage\n<s3blobstorage>\n{sections}\nbucket-name plone-blobs\n"
        "cache-dir /var/cache/x\n<mappingstorage/>\n</s3blobstorage>\n"
    )
    program = (
        "import sys, ZConfig\nfrom ZODB.config import getStorageSchema\n"
        f"ZConfig.loadConfig(getStorageSchema(), {str(path)!r})\n"
        "assert not {'boto3', 'botocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Wrong values

EXPECTED_HERE: dict[str, dict[str, str | None]] = {
    "kms-key-id": same("is not the id, ARN or alias of a key", empty="is empty"),
    "encryption-context": same("holds a word that is not name=value", empty="is empty"),
    "bucket-key": EXPECTED["s3-use-ssl"],
    "dsse": EXPECTED["s3-use-ssl"],
    "active-key": same("is not the id of a key", empty="is empty"),
    "file": {**dict.fromkeys(KINDS, ALLOWED), "empty": "is empty"},
    "value": dict.fromkeys(KINDS, LATER),
    "command": {**dict.fromkeys(KINDS, ALLOWED), "empty": LATER},
    "region": EXPECTED["s3-region"],
    "endpoint-url": EXPECTED["s3-endpoint-url"],
    "profile": EXPECTED["s3-profile"],
}
CASES = [(section, name) for section, keys in KEYS.items() for name in keys]


def test_every_key_has_its_rows():
    assert set(EXPECTED_HERE) == {name for _, name in CASES}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("section", "name"), CASES)
def test_wrong_value(section, name, kind):
    value = KINDS[kind]
    reason, line = EXPECTED_HERE[name][kind], f"{name} {value}".strip()
    number = 4
    if section in ("key", "kms-key"):
        others = "\nkms-key-id alias/x" if section == "kms-key" and name != "kms-key-id" else ""
        text, number = mode("client-side-encryption", key("k1", line + others, section)), 5
    else:
        text = mode(section, line, *([key("k1")] if section in KEYED else []))
    if reason is ALLOWED:
        encryption(text)
        return
    message = failure(text)
    assert len(message) < 1000, "a huge value must not fill the log"
    known = KEYS[section][name]
    assert known.advice in message
    if reason == LATER:
        assert message.startswith(f"<s3blobstorage>: <client-side-encryption>: <key k1>: {name} {NOT_SHOWN} ")
        assert not value or value not in message
    else:
        assert message.startswith(f"{name} {known.show(value.replace('$$', '$'))} {reason}")
        assert message.endswith(f"(line {number}, in {URL})")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("encryption-context a=b a=c", "names 'a' twice"),
        ("encryption-context a=b aws:s3:arn=c", "begins with aws:, which AWS uses itself"),
        ("encryption-context a=ü", "holds a control character or a letter outside ASCII"),
        ("encryption-context a=", "holds a word that is not name=value"),
    ],
)
def test_wrong_context(line, reason):
    assert reason in failure(mode("sse-kms", line))


@pytest.mark.parametrize("type", MODES)
def test_a_key_that_there_is_not(type):
    message = failure(mode(type, f"secret={ONE}"))
    assert f"is not a key of <{type}>. Its keys: {', '.join(KEYS[type]) or 'none'}" in message and ONE not in message
    message = failure(mode("client-side-encryption", key("k1", f"value={ONE}")))
    assert "value must be followed by a blank, not by '=' or ':'" in message and ONE not in message


# What must agree

AGREEMENT = [
    ([mode("sse-c")], "<sse-c>: it has no key; add a section <key 2026-11> to it, with one of file, value and command"),
    (
        [mode("sse-c", key("k1"), key("k2"))],
        "<sse-c>: active-key is missing, and there are the keys k1, k2. Example: active-key k1",
    ),
    (
        [mode("client-side-encryption", "active-key k3", key("k1"), key("k2"))],
        "<client-side-encryption>: active-key 'k3' is none of the section's keys: k1, k2. Example: active-key k1",
    ),
    ([mode("sse-c", "active-key k2", key("k1"))], "<sse-c>: active-key 'k2' is none of the section's keys: k1."),
    (
        [mode("sse-c", key("", f"value {ONE}"))],
        "<sse-c>: a key has the id '': objects name the key that they need, by 1 to 64 lower-case letters, digits,",
    ),
    ([mode("sse-c", key("a/b"))], "<sse-c>: a key has the id 'a/b': objects name the key"),
    ([mode("sse-c", kms("-"))], "<sse-c>: a key has the id '-': objects name the key"),
    ([mode("sse-c", key("k" * 65))], "Example: <key 2026-11>"),
    ([mode("sse-c", key("k1", ""))], "<sse-c>: <key k1>: none of file, value and command is given"),
    (
        [mode("sse-c", key("k1", f"value {ONE}\ncommand /bin/true"))],
        "<sse-c>: <key k1>: value and command are given; a key comes from one of them. Example: file /run/secrets/",
    ),
    ([mode("sse-c", key("k1", "command 'x"))], "<key k1>: command (value not shown) has a quotation mark without its"),
    ([mode("sse-c", key("k1", "", "kms-key"))], "<sse-c>: <kms-key k1>: kms-key-id is missing."),
    ([mode("sse-kms", "dsse on", "bucket-key on")], "<sse-kms>: bucket-key and dsse are both on, and DSSE has no"),
    ([mode("sse-s3"), mode("sse-s3")], "<sse-s3> is there twice; give it once, with all its keys in it"),
    (
        [mode("sse-c", key("k1")), mode("client-side-encryption", key("k1", f"value {TWO}"))],
        "two keys have the id 'k1'",
    ),
    (
        [f"s3-sse-customer-key {ONE}", mode("sse-c", key("customer-key", f"value {TWO}"))],
        "two keys have the id 'customer-key'",
    ),
    (["require-encryption on"], "require-encryption is on, but no section says how blobs are encrypted"),
    (
        ["require-encryption on", mode("no-encryption"), mode("sse-s3")],
        "require-encryption is on, but the first section is <no-encryption>",
    ),
    (
        [mode("client-side-encryption", key("k1")), "inline-size 4KB"],
        "inline-size is 4096, so that small blobs would lie in the database in clear, while the others are encrypted "
        "with keys of your own (client-side). Example: inline-size 0",
    ),
    ([mode("sse-c", key("k1")), "inline-size 1"], "inline-size is 1, so that small blobs would lie in the database"),
    ([f"s3-sse-customer-key {ONE}", "inline-size 1"], "inline-size is 1, so that small blobs would lie in"),
    (
        [mode("client-side-encryption", key("k1")), "dedup on"],
        "dedup is on, so the name of an object would tell the store's owner which file it is, while blobs are "
        "encrypted with keys of your own (client-side). Example: dedup off",
    ),
    ([mode("sse-c", key("k1")), "dedup on"], "dedup is on, so the name of an object would tell"),
    ([f"s3-sse-customer-key {ONE}", "dedup on"], "dedup is on, so the name of an object would tell"),
    (
        ["cache-encrypt on"],
        "cache-encrypt is on, and no section has keys to encrypt with: add <client-side-encryption>",
    ),
    ([mode("sse-s3"), "cache-encrypt on"], "cache-encrypt is on, and no section has keys to encrypt with"),
    (
        [mode("sse-c", key("k1")), "s3-endpoint-url http://s3.example.org"],
        "<sse-c> sends the key with each request and so needs TLS, but the endpoint is 'http://s3.example.org'. "
        "Example: s3-endpoint-url https://",
    ),
    (
        [mode("sse-s3"), mode("sse-c", key("k1")), "s3-use-ssl off"],
        "<sse-c> sends the key with each request and so needs TLS, but s3-use-ssl is off. Example: s3-use-ssl on",
    ),
    (
        [mode("sse-s3"), f"s3-sse-customer-key {ONE}", "s3-endpoint-url http://s3.example.org"],
        "s3-sse-customer-key sends the key with each request and so needs TLS",
    ),
]


@pytest.mark.parametrize("type", KEYED)
def test_a_cache_is_encrypted_with_the_keys_of_the_section(type):
    settings = parsed(mode("sse-s3"), mode(type, key("k1")), "cache-encrypt on").settings
    assert settings.cache_encrypt and settings.cache_ring is settings.store.encryption.ring
    assert settings.cache_ring.active_id == "k1"
    assert parsed(mode(type, key("k1"))).settings.cache_ring is None


@pytest.mark.parametrize(("sections", "reason"), AGREEMENT)
def test_what_must_agree(sections, reason):
    message = failure(*sections)
    assert message.startswith("<s3blobstorage>: ") and reason in message
    assert ONE not in message and TWO not in message


def test_one_id_twice_in_a_section_is_zconfigs_to_say():
    assert "section names must not be re-used" in failure(mode("sse-c", key("k1"), kms("K1")))


def test_what_a_source_gets_wrong_is_said_of_it():
    message = failure("<s3source far>\nbucket-name production\n<sse-c/>\n</s3source>")
    assert message.startswith("<s3blobstorage>: <s3source far>: <sse-c>: it has no key")


@pytest.mark.parametrize(
    "sections",
    [["inline-size 4KB", mode("sse-s3")], ["inline-size 4KB", mode("no-encryption"), mode("sse-c", key("k1"))]],
)
def test_small_blobs_may_be_in_the_database_where_new_ones_need_no_key_of_ours(sections):
    assert parsed(*sections).settings.inline_size == 4096


@pytest.mark.parametrize("sections", [[], [mode("sse-s3")], [mode("no-encryption"), mode("sse-c", key("k1"))]])
def test_equal_blobs_may_share_where_new_ones_need_no_key_of_ours(sections):
    assert parsed("dedup on", *sections).settings.dedup


@pytest.mark.parametrize("type", ["sse-s3", "sse-kms", "client-side-encryption"])
def test_the_others_need_no_tls(type):
    lines = [key("k1")] if type in KEYED else []
    assert encryption(mode(type, *lines), "s3-endpoint-url http://s3.example.org")


# Types of another package

THEIRS = """
from zope.interface import implementer
from collective.s3blobstorage.encryption.configured import StoreMode
from collective.s3blobstorage.encryption.interfaces import IEncryptionSection
from collective.s3blobstorage.encryption.managed import SSES3
from collective.s3blobstorage.errors import ConfigurationError


@implementer(IEncryptionSection)
class Section:
    type = "their-way"

    def __init__(self, config):
        self.strength = config.strength

    def settings(self, environ):
        if environ.get("THEIR_WAY") == "weak":
            raise ConfigurationError("it is weak today")
        return StoreMode(f"their-way-{self.strength}", lambda required: SSES3(required=required))
"""
COMPONENT = """
<component>
  <import package="collective.s3blobstorage"/>
  <sectiontype name="their-way" implements="collective.s3blobstorage.encryption" datatype="their_way.Section">
    <key name="strength" default="1"/>
  </sectiontype>
</component>
"""


def test_a_mode_of_another_package(tmp_path, monkeypatch):
    package = tmp_path / "their_way"
    package.mkdir()
    (package / "__init__.py").write_text(THEIRS)
    (package / "component.xml").write_text(COMPONENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    section = "%import their_way\n<their-way>\nstrength 11\n</their-way>"
    factory = parsed(section, mode("client-side-encryption", key("k1")), "require-encryption on")
    found = factory.settings.store.encryption
    assert (found.name, found.ring.ids, found.required) == ("their-way-11", ("k1",), True)
    assert found.server_side.write_parameters() == {"ServerSideEncryption": "AES256"}
    monkeypatch.setenv("THEIR_WAY", "weak")
    assert failure(section).startswith("<s3blobstorage>: <their-way>: it is weak today")


# Secrets


def shown(error: BaseException) -> str:
    """With the variables of every frame but ours, as reports of errors print them."""
    gathered = traceback.TracebackException.from_exception(error, capture_locals=True)
    gathered.stack = traceback.StackSummary(frame for frame in gathered.stack if frame.filename != __file__)
    return "\n".join(["".join(gathered.format()), repr(error), repr(vars(error)), str(getattr(error, "value", ""))])


def test_keys_in_no_repr_of_what_parsing_leaves_behind():
    factory = parsed(mode("sse-c", key("k1")), mode("client-side-encryption", key("k2", f"command /bin/echo {TWO}")))
    ring = factory.settings.store.encryption.ring
    ring.load()
    for each in (factory.settings, factory.config, vars(factory.config), ring, vars(ring), ring.providers, list(ring)):
        for text in (repr(each), str(each)):
            for form in (ONE, TWO, repr(b"\1" * 32)[2:-1], "01" * 32):
                assert form not in text


@pytest.mark.parametrize(
    "sections",
    [
        [mode("sse-c", key("k1", f"value geheim {ONE}"))],
        [mode("sse-c", key("k1", f"value {ONE[:-4]}"))],
        [mode("sse-c", key("k1", f"value {ONE}\nfile /x"))],
        [mode("sse-c", key("k1", f"command '{ONE}"))],
        [mode("sse-c", key("k1")), "s3-use-ssl off"],
        [mode("sse-c", key("k1")), "s3-region eu central"],
    ],
)
def test_keys_in_no_report_of_an_error(sections):
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parsed(*sections)
    text = shown(caught.value)
    assert ONE[:-4] not in text and "geheim" not in text and repr(b"\1" * 32)[2:-1] not in text
