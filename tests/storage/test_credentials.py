"""With no credentials in the settings, boto3's own chain is used: a child process with AWS_* variables opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CHILD = """
import json, sys
from pathlib import Path
import transaction, ZODB, ZODB.config
from ZODB.blob import Blob
db = ZODB.config.databaseFromString(sys.stdin.read())
connection = db.open()
connection.root()["a"] = Blob(b"bytes")
transaction.commit()
store = db.storage._settings.store
print(json.dumps({"keys": [found.key for found in db.storage.store_.list()], "given": store.access_key}))
db.close()
"""

SECTION = """
%import collective.s3blobstorage
<zodb>
  <s3blobstorage>
    bucket-name {bucket}
    cache-dir {folder}/cache
    {more}
    <filestorage>
      path {folder}/Data.fs
    </filestorage>
  </s3blobstorage>
</zodb>
"""


@pytest.fixture
def opened(settings, tmp_path):
    """Run the child with these variables, and nothing of AWS in its environment or home besides."""

    def run(variables: dict[str, str], more: str = "") -> dict:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"} | variables
        if settings.ca_bundle:
            environment["AWS_CA_BUNDLE"] = str(settings.ca_bundle)
        finished = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=SECTION.format(bucket=settings.bucket, folder=tmp_path, more=more),
            env=environment,
            capture_output=True,
            text=True,
        )
        if finished.returncode:
            return {"error": finished.stderr.strip().splitlines()[-1]}
        return json.loads(finished.stdout)

    return run


@pytest.fixture
def keys(settings) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": settings.access_key, "AWS_SECRET_ACCESS_KEY": settings.secret_key}


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL"])
def test_keys_and_endpoint_from_the_environment(opened, keys, settings, variable):
    found = opened(keys | {variable: settings.endpoint_url, "AWS_DEFAULT_REGION": settings.region})
    assert found["given"] is None
    assert [key for key in found["keys"] if key.startswith("blobs/")]


def profile(folder, name: str, settings) -> None:
    (folder / "aws").mkdir()
    (folder / "aws" / "config").write_text(
        f"[profile {name}]\nregion = {settings.region}\nendpoint_url = {settings.endpoint_url}\n"
        f"aws_access_key_id = {settings.access_key}\naws_secret_access_key = {settings.secret_key}\n"
    )


@pytest.mark.parametrize(
    ("variables", "more"), [({"AWS_PROFILE": "plone"}, ""), ({}, "s3-profile plone")], ids=["AWS_PROFILE", "s3-profile"]
)
def test_everything_from_a_profile_in_a_file(opened, settings, tmp_path, variables, more):
    profile(tmp_path, "plone", settings)
    found = opened(variables | {"AWS_CONFIG_FILE": str(tmp_path / "aws" / "config")}, more)
    assert found["given"] is None
    assert [key for key in found["keys"] if key.startswith("blobs/")]


def test_no_credentials_at_all_is_one_sentence(opened, settings):
    found = opened({"AWS_ENDPOINT_URL_S3": settings.endpoint_url, "AWS_DEFAULT_REGION": settings.region})
    assert "s3-access-key" in found["error"]


@pytest.mark.parametrize(("variables", "more"), [({}, "s3-profile nowhere"), ({"AWS_PROFILE": "nowhere"}, "")])
def test_a_profile_that_does_not_exist_names_its_key(opened, variables, more):
    error = opened(variables, more)["error"]
    assert "s3-profile" in error
    assert "'nowhere'" in error


def test_a_secret_from_a_file(opened, settings, tmp_path):
    path = tmp_path / "secret"
    path.write_text(settings.secret_key + "\n")
    path.chmod(0o600)
    more = f"""
    s3-endpoint-url {settings.endpoint_url}
    s3-region {settings.region}
    s3-access-key {settings.access_key}
    s3-secret-key-file {path}
    """
    found = opened({}, more)
    assert found["given"] == settings.access_key
    assert [key for key in found["keys"] if key.startswith("blobs/")]
