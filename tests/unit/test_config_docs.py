"""component.xml, config_keys.py and docs/configuration.md say the same.

Run as a program (``python tests/unit/test_config_docs.py``) it writes the lists of keys into docs/configuration.md.
"""

from __future__ import annotations

import base64
import io
import re
import textwrap
from pathlib import Path

import pytest
import ZConfig
from ZConfig.info import SectionInfo
from ZODB.config import getDbSchema

from collective.s3blobstorage import encryption_keys, source_keys
from collective.s3blobstorage.config_keys import KEYS

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "<!-- keys: written by tests/unit/test_config_docs.py -->\n"
END = "<!-- end of keys -->\n"
BEGIN_SOURCES = "<!-- keys of sources: written by tests/unit/test_config_docs.py -->\n"
END_SOURCES = "<!-- end of keys of sources -->\n"
BEGIN_ENCRYPTION = "<!-- keys of encryption: written by tests/unit/test_config_docs.py -->\n"
END_ENCRYPTION = "<!-- end of keys of encryption -->\n"
SOURCES = source_keys.KEYS
ENCRYPTION = encryption_keys.KEYS

# component.xml of zodb-s3blobs 1.2.1
KEYS_OF_ZODB_S3BLOBS = {
    "bucket-name",
    "s3-prefix",
    "s3-endpoint-url",
    "s3-region",
    "s3-access-key",
    "s3-secret-key",
    "s3-use-ssl",
    "s3-addressing-style",
    "s3-sse-customer-key",
    "s3-connect-timeout",
    "s3-read-timeout",
    "s3-download-connect-timeout",
    "s3-download-read-timeout",
    "s3-download-max-attempts",
    "cache-dir",
    "cache-size",
}


def section_type(name="s3blobstorage"):
    schema = ZConfig.loadSchemaFile(
        io.StringIO('<schema><import package="collective.s3blobstorage"/><key name="none"/></schema>')
    )
    return schema.gettype(name)


def schema_keys(section="s3blobstorage") -> dict:
    return {name: info for name, info in section_type(section) if not info.issection()}


def rendered_keys() -> str:
    """The list of keys as docs/configuration.md has it."""
    return rendered(schema_keys(), KEYS)


def rendered_source_keys() -> str:
    """The same of the sources: what all have, then what each type has besides."""
    shared = SOURCES["basesource"]
    text = "### Every source\n\n" + rendered(schema_keys("basesource"), shared, "####")
    for section, keys in SOURCES.items():
        text += f"\n### `<{section}>`\n\n"
        described = " ".join(section_type(section).description.split())
        taken = [f"`{name}`" for name in keys if name in KEYS]
        if taken:
            described += (
                f" It takes these keys of `<s3blobstorage>`, with the same values and defaults: {', '.join(taken)}."
            )
        text += textwrap.fill(described, 118, break_on_hyphens=False) + "\n"
        own = {name: key for name, key in keys.items() if name not in KEYS and name not in shared}
        text += ("\n" + rendered(schema_keys(section), own, "####")) if own else ""
    return text


def rendered_encryption_keys() -> str:
    """The same of the encryption sections and those of their keys."""
    texts = []
    for section, keys in ENCRYPTION.items():
        described = textwrap.fill(" ".join(section_type(section).description.split()), 118, break_on_hyphens=False)
        text = f"### `<{section}>`\n\n{described}\n"
        texts.append(text + ("\n" + rendered(schema_keys(section), keys, "####") if keys else "\n"))
    return "".join(texts)


def rendered(infos: dict, keys: dict, heading: str = "###") -> str:
    paragraphs = []
    for name in keys:
        info = infos[name]
        default = info.getdefault()
        if default is None:
            stated = "none; required" if info.description.strip().endswith("Required.") else "none"
        else:
            stated = f"`{default.value}`" if default.value else "empty"
        items = [
            f"- Default: {stated}",
            f"- Allowed: {keys[name].allowed}",
            f"- Example: `{name} {keys[name].example}`",
        ]
        wrapped = [textwrap.fill(item, 118, subsequent_indent="  ", break_on_hyphens=False) for item in items]
        meaning = textwrap.fill(" ".join(info.description.split()), 118, break_on_hyphens=False)
        paragraphs.append("\n".join([f"{heading} `{name}`", "", meaning, "", *wrapped, ""]))
    return "\n".join(paragraphs) + "\n"


def documented_keys(begin: str = BEGIN, end: str = END) -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    return text[text.index(begin) + len(begin) : text.index(end)]


def test_component_and_keys_are_the_same():
    assert {name: info.datatype for name, info in schema_keys().items()} == KEYS
    for name, info in schema_keys().items():
        assert info.attribute == name.replace("-", "_")
        assert info.description and info.description.strip().endswith(".")


def default_of(info) -> str | None:
    default = info.getdefault()
    return None if default is None else default.value


@pytest.mark.parametrize("section", SOURCES | ENCRYPTION)
def test_component_and_keys_of_other_sections_are_the_same(section):
    infos = schema_keys(section)
    assert {name: info.datatype for name, info in infos.items()} == (SOURCES | ENCRYPTION)[section]
    for name, info in infos.items():
        assert info.attribute == name.replace("-", "_")
        assert info.description and info.description.strip().endswith(".")


def test_a_key_of_a_source_that_has_the_name_of_one_of_the_storage_is_the_same():
    ours, theirs = schema_keys(), schema_keys("s3source")
    for name in set(ours) & set(theirs):
        assert theirs[name].datatype is ours[name].datatype
        assert theirs[name].description == ours[name].description
        assert default_of(theirs[name]) == default_of(ours[name])
    for section in SOURCES:  # written twice in component.xml
        for name, info in schema_keys("basesource").items():
            assert schema_keys(section)[name].description == info.description
            assert default_of(schema_keys(section)[name]) == default_of(info)


def test_every_key_of_zodb_s3blobs_is_there():
    assert KEYS_OF_ZODB_S3BLOBS <= set(schema_keys())


def test_the_base_is_one_section_and_the_others_are_any_number():
    encryption, base, sources = [info for _, info in section_type() if info.issection()]
    [of_a_source] = [info for _, info in section_type("s3source") if info.issection()]
    for found in (encryption, of_a_source):
        assert found.ismulti() and (found.minOccurs, found.attribute) == (0, "encryption")
        assert found.sectiontype.name == "collective.s3blobstorage.encryption"
    modes = set(encryption.sectiontype.getsubtypenames())
    assert modes | {"key", "kms-key"} == set(ENCRYPTION) and len(modes) == 5
    for section in ("sse-c", "client-side-encryption"):
        [keys] = [info for _, info in section_type(section) if info.issection()]
        assert keys.ismulti() and (keys.minOccurs, keys.attribute) == (0, "keys")
        assert set(keys.sectiontype.getsubtypenames()) == {"key", "kms-key"}
    assert isinstance(base, SectionInfo) and not base.ismulti()
    assert (base.sectiontype.name, base.attribute) == ("zodb.storage", "base")
    assert sources.ismulti() and (sources.minOccurs, sources.attribute) == (0, "sources")
    assert sources.sectiontype.name == "collective.s3blobstorage.source"
    assert set(sources.sectiontype.getsubtypenames()) == set(SOURCES)


def test_document_lists_the_keys_as_they_are():
    assert documented_keys() == "\n" + rendered_keys()
    assert documented_keys(BEGIN_SOURCES, END_SOURCES) == "\n" + rendered_source_keys()
    assert documented_keys(BEGIN_ENCRYPTION, END_ENCRYPTION) == "\n" + rendered_encryption_keys()


_OTHERS = (SOURCES | ENCRYPTION).items()
ALL = {**KEYS, **{f"{section} {name}": key for section, keys in _OTHERS for name, key in keys.items()}}


@pytest.mark.parametrize("name", sorted(ALL))
def test_example_is_allowed(name):
    key = ALL[name]
    name = key.name
    example = key.example
    if name in ("s3-ca-bundle", "s3-secret-key-file", "cdn-private-key-file"):  # files, which are not on this machine
        assert Path(example).is_absolute()
    elif match := re.fullmatch(r"\$\(([A-Z0-9_]+)\)", example):
        assert key.show(match[1]) == "(value not shown)"
    else:
        assert key(example) is not None


@pytest.mark.parametrize(("document", "count"), [("configuration.md", 2), ("overlay.md", 3), ("encryption.md", 7)])
def test_document_has_examples_that_parse(document, count, monkeypatch):
    text = DOCUMENT.with_name(document).read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(str(DOCUMENT.parents[1] / "examples" / "vault"))
    monkeypatch.setenv("BLOB_KEY_2025_03", base64.b64encode(bytes(32)).decode())
    examples = re.findall(r"```zconfig(?: vault)?\n(.*?)```", text, re.DOTALL)
    assert len(examples) == count
    for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY", "PRODUCTION_ACCESS_KEY", "PRODUCTION_SECRET_KEY"):
        monkeypatch.setenv(name, "x")
    for example in examples:
        example = example.replace("/srv/plone/var/filestorage/", "")
        ZConfig.loadConfigFile(getDbSchema(), io.StringIO(f"<zodb main>\n{example}</zodb>\n"))


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    for begin, written, end in (
        (BEGIN, rendered_keys(), END),
        (BEGIN_SOURCES, rendered_source_keys(), END_SOURCES),
        (BEGIN_ENCRYPTION, rendered_encryption_keys(), END_ENCRYPTION),
    ):
        head, rest = text.split(begin)
        text = head + begin + "\n" + written + end + rest.split(end)[1]
    DOCUMENT.write_text(text, encoding="utf-8")
