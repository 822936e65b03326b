"""component.xml, config_keys.py and docs/configuration.md say the same.

Run as a program (``python tests/unit/test_config_docs.py``) it writes the list of keys into docs/configuration.md.
"""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

import pytest
import ZConfig
from ZConfig.info import SectionInfo

from collective.s3blobstorage.config_keys import KEYS

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "<!-- keys: written by tests/unit/test_config_docs.py -->\n"
END = "<!-- end of keys -->\n"

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
REQUIRED = {"bucket-name", "cache-dir"}


def section_type():
    schema = ZConfig.loadSchemaFile(
        io.StringIO('<schema><import package="collective.s3blobstorage"/><key name="none"/></schema>')
    )
    return schema.gettype("s3blobstorage")


def schema_keys() -> dict:
    return {name: info for name, info in section_type() if not info.issection()}


def rendered_keys() -> str:
    """The list of keys as docs/configuration.md has it."""
    paragraphs = []
    for name, info in schema_keys().items():
        default = info.getdefault()
        if default is None:
            stated = "none; required" if name in REQUIRED else "none"
        else:
            stated = f"`{default.value}`" if default.value else "empty"
        items = [
            f"- Default: {stated}",
            f"- Allowed: {KEYS[name].allowed}",
            f"- Example: `{name} {KEYS[name].example}`",
        ]
        wrapped = [textwrap.fill(item, 118, subsequent_indent="  ", break_on_hyphens=False) for item in items]
        meaning = textwrap.fill(" ".join(info.description.split()), 118, break_on_hyphens=False)
        paragraphs.append("\n".join([f"### `{name}`", "", meaning, "", *wrapped, ""]))
    return "\n".join(paragraphs) + "\n"


def documented_keys() -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def test_component_and_keys_are_the_same():
    assert {name: info.datatype for name, info in schema_keys().items()} == KEYS
    for name, info in schema_keys().items():
        assert info.attribute == name.replace("-", "_")
        assert info.description and info.description.strip().endswith(".")


def test_every_key_of_zodb_s3blobs_is_there():
    assert KEYS_OF_ZODB_S3BLOBS <= set(schema_keys())


def test_the_base_is_the_only_section():
    [section] = [info for _, info in section_type() if info.issection()]
    assert isinstance(section, SectionInfo)
    assert (section.sectiontype.name, section.attribute) == ("zodb.storage", "base")


def test_document_lists_the_keys_as_they_are():
    assert documented_keys() == "\n" + rendered_keys()


@pytest.mark.parametrize("name", sorted(KEYS))
def test_example_is_allowed(name):
    key = KEYS[name]
    example = key.example
    if name in ("s3-ca-bundle", "s3-secret-key-file"):  # files, which are not on this machine
        assert Path(example).is_absolute()
    elif match := re.fullmatch(r"\$\(([A-Z0-9_]+)\)", example):
        assert key.show(match[1]) == "(value not shown)"
    else:
        assert key(example) is not None


def test_document_has_an_example_that_parses(monkeypatch):
    from ZODB.config import getDbSchema

    text = DOCUMENT.read_text(encoding="utf-8")
    examples = re.findall(r"```zconfig\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY"):
        monkeypatch.setenv(name, "x")
    for example in examples:
        example = example.replace("/srv/plone/var/filestorage/", "")
        ZConfig.loadConfigFile(getDbSchema(), io.StringIO(f"<zodb main>\n{example}</zodb>\n"))


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    DOCUMENT.write_text(head + BEGIN + "\n" + rendered_keys() + END + rest.split(END)[1], encoding="utf-8")
