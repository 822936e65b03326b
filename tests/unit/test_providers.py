"""The table of providers: complete, with sources, and docs/providers.md says the same.

Run as a program (``python tests/unit/test_providers.py``) it writes docs/providers.md.
"""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
import ZConfig

from collective.s3blobstorage import config_keys
from collective.s3blobstorage.config import storage_settings
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.objectstore import open_store, parts
from collective.s3blobstorage.providers import BY_NAME, COLUMNS, OTHER, PROVIDERS, Fact, Provider, choose, shown
from collective.s3blobstorage.settings import StoreSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"

HEAD = """# Providers

What stores do differently from each other, as `s3-provider` knows it. Written by tests/unit/test_providers.py from
`providers.py`. What is not listed for a provider is not known; what the checks at the start measure counts in any case.
"""


def rendered() -> str:
    """docs/providers.md."""
    text = [HEAD]
    for provider in PROVIDERS:
        text.append(f"## `{provider.name}`: {provider.title}\n")
        for column, label in COLUMNS.items():
            fact = getattr(provider, column)
            if fact is not None:
                value = f"`{shown(fact.value)}`" if column in ("hosts", "key_variables") else shown(fact.value)
                text.append(f"- {label}: {value} ({fact.source})")
        text.append("")
    return "\n".join(text)


def facts() -> list[tuple[str, str, Fact]]:
    return [
        (provider.name, column, getattr(provider, column))
        for provider in PROVIDERS
        for column in COLUMNS
        if getattr(provider, column) is not None
    ]


def test_the_document_says_the_same():
    assert DOCUMENT.read_text(encoding="utf-8") == rendered()


def test_the_providers_of_the_key():
    wanted = "aws b2 r2 hetzner ovh scaleway digitalocean wasabi tigris ceph swift garage seaweedfs"
    assert list(BY_NAME) == wanted.split()
    for name in ("auto", *BY_NAME):
        assert config_keys.s3_provider(name.upper()) == name
    with pytest.raises(ConfigurationError, match="s3-provider 'minio' is none of the choices. Allowed: auto, aws, b2"):
        config_keys.s3_provider("minio")


def test_every_column_is_shown_and_has_a_row():
    columns = {field.name for field in dataclasses.fields(Provider)} - {"name", "title"}
    assert set(COLUMNS) == columns
    assert {column for _, column, _ in facts()} == columns


@pytest.mark.parametrize(("name", "column", "fact"), facts(), ids=lambda value: str(value)[:20])
def test_every_fact_has_a_source(name, column, fact):
    assert re.fullmatch(r"https://\S+|measured on \S.*", fact.source)
    assert fact.value is not None


@pytest.mark.parametrize(
    ("endpoint", "name", "region"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "aws", "eu-central-1"),
        ("https://s3.dualstack.us-gov-west-1.amazonaws.com", "aws", "us-gov-west-1"),
        ("https://s3-fips.dualstack.us-gov-west-1.amazonaws.com", "aws", "us-gov-west-1"),
        ("https://s3-fips.us-east-2.amazonaws.com", "aws", "us-east-2"),
        ("https://s3.amazonaws.com", "aws", None),
        ("https://s3.us-west-004.backblazeb2.com", "b2", "us-west-004"),
        ("https://0123456789abcdef.r2.cloudflarestorage.com", "r2", "auto"),
        ("https://0123456789abcdef.eu.r2.cloudflarestorage.com", "r2", "auto"),
        ("https://fsn1.your-objectstorage.com", "hetzner", "fsn1"),
        ("https://s3.eu-west-par.io.cloud.ovh.net", "ovh", "eu-west-par"),
        ("https://S3.FR-PAR.SCW.CLOUD:443", "scaleway", "fr-par"),
        ("https://ams3.digitaloceanspaces.com", "digitalocean", "ams3"),
        ("https://s3.eu-central-2.wasabisys.com", "wasabi", "eu-central-2"),
        ("https://s3.wasabisys.com", "wasabi", None),
        ("https://fly.storage.tigris.dev", "tigris", "auto"),
        ("https://s3.example.org", "other", None),
        ("https://s3.eu-central-1.amazonaws.com.example.org", "other", None),
        ("http://127.0.0.1:9000", "other", None),
    ],
)
def test_told_by_the_host(endpoint, name, region):
    provider = choose("auto", endpoint)
    assert provider.name == name
    assert provider.region_of(endpoint) == region


def test_a_named_one_counts_whatever_the_host_is():
    assert choose("ceph", "https://s3.us-west-004.backblazeb2.com").name == "ceph"
    assert choose("garage", "http://10.0.0.1:3900").region_of("http://10.0.0.1:3900") == "garage"


def test_nothing_is_known_of_another_store():
    assert all(OTHER.value(column) is None for column in COLUMNS)


def store_of(**settings):
    known = {"bucket": "bucket", "access_key": "access", "secret_key": "secret"}
    return open_store(StoreSettings(**(known | settings)))


def test_what_the_row_says_where_the_settings_leave_it_open(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    tigris = store_of(endpoint_url="https://fly.storage.tigris.dev")
    assert (tigris.settings.addressing_style, tigris.settings.region) == ("virtual", "auto")
    assert tigris.connection.reader.meta.region_name == "auto"
    b2 = store_of(endpoint_url="https://s3.us-west-004.backblazeb2.com")
    assert b2.connection.reader.meta.region_name == "us-west-004"
    told = store_of(endpoint_url="https://fly.storage.tigris.dev", addressing_style="path", region="eu")
    assert (told.settings.addressing_style, told.settings.region) == ("path", "eu")
    for store in (tigris, b2, told):
        store.close()


def test_parts_are_as_many_and_as_large_as_the_store_takes():
    terabyte = 1024**4
    most = BY_NAME["scaleway"].value("most_parts")
    assert -(-terabyte // parts.part_size(terabyte, most)) <= most < -(-terabyte // parts.part_size(terabyte))
    for provider in PROVIDERS:
        assert (provider.value("smallest_part") or 0) <= parts.part_size(1)


ZCONF = """
%import collective.s3blobstorage
<s3blobstorage>
  bucket-name bucket
  cache-dir {cache}
  s3-endpoint-url https://s3.us-west-004.backblazeb2.com
  s3-provider {provider}
  {more}
  <mappingstorage>
  </mappingstorage>
</s3blobstorage>
"""


def parsed(tmp_path, provider: str, environ: dict[str, str], more: str = ""):
    from ZODB.config import getStorageSchema

    text = ZCONF.format(cache=tmp_path / "cache", provider=provider, more=more)
    config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(text))
    return storage_settings(config.storage.config, environ).store


@pytest.mark.parametrize("names", BY_NAME["b2"].value("key_variables"), ids="/".join)
def test_keys_of_the_providers_own_variables(tmp_path, names):
    environ = dict(zip(names, ("the-key-id", "the-app-key"), strict=True))
    store = parsed(tmp_path, "b2", environ)
    assert (store.access_key, store.secret_key, store.provider) == ("the-key-id", "the-app-key", "b2")


@pytest.mark.parametrize(
    ("provider", "environ"),
    [
        ("auto", {"B2_KEY_ID": "id", "B2_APP_KEY": "key"}),
        ("wasabi", {"B2_KEY_ID": "id", "B2_APP_KEY": "key"}),
        ("b2", {"B2_KEY_ID": "id"}),
        ("b2", {"B2_KEY_ID": "id", "B2_APP_KEY": " "}),
        ("b2", {}),
    ],
)
def test_otherwise_they_are_left_to_boto3(tmp_path, provider, environ):
    store = parsed(tmp_path, provider, environ)
    assert (store.access_key, store.secret_key) == (None, None)


def test_keys_of_the_section_come_first(tmp_path):
    more = "s3-access-key mine\n  s3-secret-key mine-too"
    store = parsed(tmp_path, "b2", {"B2_KEY_ID": "id", "B2_APP_KEY": "key"}, more)
    assert (store.access_key, store.secret_key) == ("mine", "mine-too")


def test_a_variable_that_is_no_key_is_named_and_not_shown(tmp_path):
    with pytest.raises(ConfigurationError, match="^B2_APP_KEY ") as raised:
        parsed(tmp_path, "b2", {"B2_KEY_ID": "id", "B2_APP_KEY": "two words"})
    assert "two words" not in str(raised.value)


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(), encoding="utf-8")
