"""instance.yaml is an input for cookiecutter-zope-instance: its variables are keys of our section.

The template is in no package registry, so it is not run here; ``data/zope-instance.conf`` has the shape of what it
writes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collective.s3blobstorage.config import S3BlobStorageFactory
from collective.s3blobstorage.config_keys import KEYS

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "data" / "zope-instance.conf"

# cookiecutter.json of cookiecutter-zope-instance 3.1
VARIABLES = {
    "db_z3blobs_enabled",
    "db_z3blobs_bucket_name",
    "db_z3blobs_s3_prefix",
    "db_z3blobs_s3_endpoint_url",
    "db_z3blobs_s3_region",
    "db_z3blobs_s3_access_key",
    "db_z3blobs_s3_secret_key",
    "db_z3blobs_s3_use_ssl",
    "db_z3blobs_s3_addressing_style",
    "db_z3blobs_s3_sse_customer_key",
    "db_z3blobs_cache_dir",
    "db_z3blobs_cache_size",
}


def documented_variables() -> dict[str, str]:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(db_z3blobs_\w+)` \| `([a-z0-9-]+)` \|$", text, re.MULTILINE))


@pytest.fixture
def context() -> dict:
    document = yaml.safe_load((ROOT / "instance.yaml").read_text(encoding="utf-8"))
    assert set(document) == {"default_context"}
    return document["default_context"]


def test_every_variable_of_the_template_is_a_key(context):
    assert set(documented_variables()) == VARIABLES - {"db_z3blobs_enabled"}
    assert set(documented_variables().values()) <= set(KEYS)
    for variable, key in documented_variables().items():
        assert key == variable.removeprefix("db_z3blobs_").replace("_", "-")


def test_instance_yaml_switches_the_section_on_with_allowed_values(context):
    ours = {name: value for name, value in context.items() if name.startswith("db_z3blobs_")}
    assert set(ours) <= VARIABLES
    assert ours.pop("db_z3blobs_enabled") is True
    assert {"db_z3blobs_bucket_name", "db_z3blobs_cache_dir"} <= set(ours)  # the template requires both
    for name, value in ours.items():
        KEYS[documented_variables()[name]](str(value).lower() if isinstance(value, bool) else str(value))


def test_instance_yaml_holds_no_secret(context):
    text = " ".join(context)
    assert not re.search(r"secret|password|access_key|sse_customer", text)


def test_zope_conf_of_the_template_parses_with_only_the_import_line_changed(context, tmp_path):
    options = pytest.importorskip("Zope2.Startup.options")
    path = tmp_path / "zope.conf"
    (tmp_path / "var" / "filestorage").mkdir(parents=True)
    rendered = SAMPLE.read_text(encoding="utf-8").replace("@HOME@", str(tmp_path))
    assert rendered.count("%import zodb_s3blobs") == 1
    path.write_text(rendered.replace("%import zodb_s3blobs", "%import collective.s3blobstorage"))
    parsed = options.ZopeWSGIOptions(str(path))()
    [database] = parsed.configroot.databases
    factory = database.config.storage
    assert isinstance(factory, S3BlobStorageFactory)
    store = factory.settings.store
    assert (store.bucket, store.prefix) == (context["db_z3blobs_bucket_name"], context["db_z3blobs_s3_prefix"])
    assert store.endpoint_url == context["db_z3blobs_s3_endpoint_url"]
    assert store.region == context["db_z3blobs_s3_region"]
    assert (store.use_ssl, store.addressing_style) == (False, context["db_z3blobs_s3_addressing_style"])
    assert factory.settings.cache_dir == tmp_path / "var" / "s3blobs"
    assert factory.settings.cache_size == 2 * 1024**3
