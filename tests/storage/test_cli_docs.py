"""The examples of docs/command.md, run one after the other in one folder, with the bucket that the test has."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import ZODB
from command_line import SCRIPT, environment
from sites import commit_blobs
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.config_keys import KEYS
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage

DOCUMENT = (Path(__file__).parents[2] / "docs" / "command.md").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str, int]]:
    """(command, what it prints, exit status) of every line that begins with a dollar sign."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            status = re.search(r"^\[exit status (\d+)\]\n", printed, re.MULTILINE)
            printed = printed.replace(status[0], "") if status else printed
            found.append((command, printed, int(status[1]) if status else 0))
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether they are the same; … stands for anything, and blanks for blanks."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in expected.split("…")]
    return re.fullmatch(r"\s*" + r"(?s:.*)".join(pieces) + r"\s*", printed) is not None


def commit_twelve_blobs(folder: Path, settings: StoreSettings) -> None:
    """What the site has done until the document warms a machine: 100 KB each, one transaction after the other."""
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
    assert len(examples()) == 22
    for command, expected, status in examples():
        if " warm" in command and not (tmp_path / "Data.fs").exists():
            commit_twelve_blobs(tmp_path, settings)
        result = subprocess.run(
            ["bash", "-c", real(command)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
        assert (result.returncode, result.stderr) == (status, ""), command
        assert matches(real(expected), result.stdout), f"{command}\n{result.stdout}"


@pytest.mark.parametrize(
    "expected, printed, same",
    [("a … b", "a 1 2 b\n", True), ("a … b", "a 1 c", False), ("a  b\n", "a b", True), ("a b", "ab", False)],
)
def test_comparison_sees_differences(expected, printed, same):
    assert matches(expected, printed) is same


def test_every_key_that_the_document_names_is_one():
    named = set(re.findall(r"--([a-z0-9]+(?:-[a-z0-9]+)+)", DOCUMENT))
    own = {"dry-run", "no-backup", "blobs-migrated", "no-write", "no-base", "limit-rate", "oid-range", "purge-source"}
    own |= {"even-if-running", "from-bucket"}
    assert named - own <= set(KEYS)
    assert own <= named
