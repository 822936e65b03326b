"""Checkout, editable install and wheel: each finds the profiles, under the same ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# A process of its own: GenericSetup's registry is global, and the package must come from the given folder.
LIST_PROFILES = """
import json, sys
import collective.s3blobstorage
import zope.component
from Products.GenericSetup import profile_registry
from zope.configuration import xmlconfig
context = xmlconfig.file("meta.zcml", zope.component)
xmlconfig.file("configure.zcml", collective.s3blobstorage, context=context)
profiles = {
    info["id"]: [info["path"], info["version"]]
    for info in profile_registry.listProfileInfo() if "s3blob" in info["id"]
}
json.dump([collective.s3blobstorage.__file__, profiles], sys.stdout)
"""


def profiles_seen(*, first_on_path: Path | None = None) -> tuple[Path, dict[str, list[str]]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if first_on_path:
        environment["PYTHONPATH"] = str(first_on_path)
    run = subprocess.run(
        [sys.executable, "-c", LIST_PROFILES], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    module, profiles = json.loads(run.stdout)
    return Path(module), profiles


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # --no-isolation in pip's terms: hatchling is one of the test requirements, nothing is downloaded.
    run = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (built,) = folder.glob("*.whl")
    return built


def check(profiles: dict[str, list[str]], folder: Path) -> None:
    assert set(profiles) == {"collective.s3blobstorage:default", "collective.s3blobstorage:uninstall"}
    for profile_id, (path, version) in profiles.items():
        assert Path(path).resolve() == folder / profile_id.partition(":")[2]
        assert version == "1003"


def test_checkout_reads_the_top_level_folder():
    """Also what an editable install does: it puts ``src`` on the path."""
    module, profiles = profiles_seen(first_on_path=REPOSITORY / "src")
    assert module.parents[2] == REPOSITORY / "src"
    check(profiles, REPOSITORY / "profiles")


def test_wheel_carries_every_file_of_the_profiles(wheel):
    ours = {
        f"collective/s3blobstorage/{path.relative_to(REPOSITORY)}"
        for path in (REPOSITORY / "profiles").rglob("*")
        if path.is_file()
    }
    assert ours
    names = set(zipfile.ZipFile(wheel).namelist())
    assert ours <= names
    assert not [name for name in names if name.startswith("profiles/")]  # no folder beside other people's packages


def test_wheel_carries_the_built_uploader_and_not_its_sources(wheel):
    static = REPOSITORY / "src" / "collective" / "s3blobstorage" / "uploader" / "static"
    ours = {path.relative_to(REPOSITORY / "src").as_posix() for path in static.iterdir()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert len(ours) > 40 and ours <= names
    assert not [name for name in names if "frontend" in name or "node_modules" in name]


def test_wheel_reads_its_own_profiles(wheel, tmp_path):
    """Unpacked as ``lib`` beside somebody else's ``profiles``: a --target install into another repository."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "lib")
    theirs = tmp_path / "profiles"
    theirs.mkdir()
    (theirs / "configure.zcml").write_text("<not our business>")
    module, profiles = profiles_seen(first_on_path=tmp_path / "lib")
    assert module.parent == tmp_path / "lib" / "collective" / "s3blobstorage"
    check(profiles, module.parent / "profiles")
