"""The examples of docs/command.md, run one after the other in one folder, with the bucket that the test has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import ZODB
from command_line import SCRIPT, environment
from documents import DOCS, Example, blocks, examples, matches
from sites import commit_blobs
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.config_keys import KEYS
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage

DOCUMENT = (DOCS / "command.md").read_text(encoding="utf-8")


def examples_of(text: str) -> list[Example]:
    return [example for block in blocks(text) if block.language == "console" for example in examples(block.text)]


def commit_twelve_blobs(folder: Path, settings: StoreSettings) -> None:
    """What the site has done until `report` is shown: 100 KB each, one transaction after the other."""
    written = StorageSettings(store=settings, owner="www.example.org", cache_dir=folder / "cache of the site")
    db = ZODB.DB(open_storage(FileStorage(str(folder / "Data.fs")), written))
    for number in range(12):
        commit_blobs(db, **{f"blob{number}": os.urandom(100 * 1024)})
    db.close()


def test_examples_do_and_print_what_the_document_says(tmp_path, settings):
    here = {"/srv/plone": str(tmp_path), "plone-blobs": settings.bucket}
    here["https://s3.example.org"] = settings.endpoint_url

    def real(text: str) -> str:
        for name, value in here.items():
            text = text.replace(name, value)
        return text

    [before] = re.findall(r"```zconfig before\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "zope.conf").write_text(real(before))
    env = environment(
        S3_ACCESS_KEY=settings.access_key, S3_SECRET_KEY=settings.secret_key, TMPDIR=str(tmp_path), LANG="C.UTF-8"
    )
    env["PATH"] = f"{SCRIPT.parent}:{env['PATH']}"
    if settings.ca_bundle:
        env["AWS_CA_BUNDLE"] = str(settings.ca_bundle)
    commands = examples_of(real(DOCUMENT))
    assert len(commands) == 32
    for example in commands:
        if " report" in example.command and not (tmp_path / "Data.fs").exists():
            commit_twelve_blobs(tmp_path, settings)
        example.run(tmp_path, env)


@pytest.mark.parametrize(
    "expected, printed, same",
    [("a … b", "a 1 2 b\n", True), ("a … b", "a 1 c", False), ("a  b\n", "a b", True), ("a b", "ab", False)],
)
def test_comparison_sees_differences(expected, printed, same):
    assert matches(expected, printed) is same


def test_every_key_that_the_document_names_is_one():
    named = set(re.findall(r"--([a-z0-9]+(?:-[a-z0-9]+)+)", DOCUMENT))
    own = {"dry-run", "no-backup", "blobs-migrated", "no-write", "no-base", "limit-rate", "oid-range", "purge-source"}
    own |= {"even-if-running", "from-bucket", "blobs-stay", "in-bucket", "new-since", "by-path", "inventory-max-age"}
    assert named - own <= set(KEYS)
    assert own <= named
