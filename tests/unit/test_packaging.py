"""What pyproject.toml, the pins, the README and the licence promise to who installs the package."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import ZConfig
import ZODB.config
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PIN_FILES = ("constraints.txt", "constraints-6.1.txt", "requirements-ministack.txt")


def pins(name: str) -> dict[str, set[str]]:
    """The versions that a file pins, by canonical name; more than one where markers choose."""
    found: dict[str, set[str]] = {}
    for line in (REPOSITORY / name).read_text().splitlines():
        pin = re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line)
        if pin:
            found.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    return found


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [line for extra in extras for line in optional[extra]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-6.1.txt"])
def test_constraints_pin_what_the_project_asks_for(name):
    pinned = pins(name)
    for requirement in requirements("plone", "test"):
        if requirement.name == PROJECT["name"]:
            continue
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_constraints_are_those_of_the_two_plone_releases():
    assert {version[:4] for version in pins("constraints.txt")["products-cmfplone"]} == {"6.2."}
    assert pins("constraints-6.1.txt")["products-cmfplone"] == {"6.1.4"}
    assert pins("constraints-6.1.txt")["plone-api"]
    # 7.0 alphas are for Plone 7, and Plone 6.2 does not start with them.
    assert {version.split(".")[0] for version in pins("constraints.txt")["plone-app-layout"]} == {"6"}


@pytest.mark.parametrize("name", PIN_FILES)
def test_pins_name_no_index(name):
    """Each line is a pin, its hash or a comment: where packages come from is the business of who installs."""
    pin_or_hash = re.compile(r"([A-Za-z0-9._-]+==\S+( ; .+)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?|#.*)?")
    for line in (REPOSITORY / name).read_text().splitlines():
        assert pin_or_hash.fullmatch(line), line
        assert "://" not in line


def test_ministack_is_pinned_by_hash():
    text = (REPOSITORY / "requirements-ministack.txt").read_text()
    assert pins("requirements-ministack.txt")["ministack"]
    assert re.findall(r"==\S+(?: ; [^\\\n]+)?(?! \\)$", text, re.MULTILINE) == []


def test_the_storage_does_not_ask_for_plone():
    """A ZEO server installs the package without Plone; tests/storage/test_packaging.py does so."""
    names = {canonicalize_name(requirement.name) for requirement in requirements()}
    assert names == {"zodb", "zconfig", "boto3", "cryptography", "click", "rich"}


def test_licence():
    assert PROJECT["license"] == "GPL-2.0-or-later"
    text = (REPOSITORY / "LICENSE.md").read_text()
    assert "either version 2 of the License, or (at your option) any later" in text
    assert "GNU GENERAL PUBLIC LICENSE" in text and "END OF TERMS AND CONDITIONS" in text


def test_ci_runs_all_tests():
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "run.py test --tier ci" in script.read_text()


def test_the_example_of_the_readme_is_a_configuration(tmp_path):
    readme = (REPOSITORY / "README.md").read_text()
    (block,) = re.findall(r"^(    %import .*?^    </zodb_db>)$", readme, re.MULTILINE | re.DOTALL)
    text = textwrap.dedent(block).replace("zodb_db", "zodb")
    # Zope's own key of its own section; the rest is ZODB's schema.
    text = "".join(line + "\n" for line in text.splitlines() if "mount-point" not in line)
    text = text.replace("/var/", f"{tmp_path}/")
    (tmp_path / "lib" / "plone").mkdir(parents=True)
    configuration, _ = ZConfig.loadConfigFile(ZODB.config.getDbSchema(), io.StringIO(text))
    settings = configuration.database[0].config.storage.settings
    assert settings.store.bucket == "my-site-blobs"
    assert settings.owner == "production"
    assert settings.cache_dir == tmp_path / "cache/plone/blobs"
    assert settings.cache_size > 9 * 10**9


def test_modules_of_the_command_import_no_zope_and_no_boto3():
    code = (
        "import sys; from collective.s3blobstorage.cli import command\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('boto3','botocore','Zope2','Products','plone','ZEO')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
