"""A ZEO server's environment: the package as a wheel and as an editable install, beside ZEO and without Plone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from run_py import REPOSITORY, load

run = load()

# What a ZEO server does with the package, as far as it is ours: read zeo.conf, open the storage, keep a blob.
SERVE = """
import json, os, sys
from importlib import metadata, resources
from ZEO.runzeo import ZEOOptions
import transaction, ZODB
from ZODB.blob import Blob
options = ZEOOptions()
options.realize(["-C", sys.argv[1]])
storage = options.storages[0].open()
database = ZODB.DB(storage)
with database.transaction() as connection:
    connection.root()["blob"] = Blob(b"kept")
connection = database.open()
with connection.root()["blob"].open() as file:
    read = file.read()
connection.close()
database.close()
package = resources.files("collective.s3blobstorage")
print(json.dumps({
    "read": read.decode(),
    "package": str(package),
    "component": (package / "component.xml").is_file(),
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
    "distributions": sorted(dist.metadata["Name"].lower() for dist in metadata.distributions()),
}))
"""

ZEO_CONF = """
%import collective.s3blobstorage
<zeo>
  address 127.0.0.1:8100
</zeo>
<s3blobstorage 1>
  bucket-name {bucket}
  s3-endpoint-url {endpoint}
  s3-region {region}
  s3-access-key {access_key}
  s3-secret-key {secret_key}
  cache-dir {folder}/cache
  <filestorage>
    path {folder}/Data.fs
  </filestorage>
</s3blobstorage>
"""


@pytest.fixture(scope="module")
def environment():
    """The base dependencies and ZEO with the pins of constraints.txt, kept beside the other environments."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    arguments = [*project["dependencies"], "ZEO", "-c", "constraints.txt"]
    name = f"zeo-py{sys.version_info.major}.{sys.version_info.minor}"
    return run.Environment(name, sys.executable, arguments, ["pyproject.toml", "constraints.txt"]).make()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, environment, wheel):
    """The environment with the package installed one way."""
    what = [str(wheel)] if request.param == "wheel" else ["-e", ".", "--build-constraints", "constraints.txt"]
    uv = run.find_uv()
    run.run_uv([uv, "pip", "install", "--quiet", "--python", environment.python, "--no-deps", "--reinstall", *what])
    yield request.param, environment
    run.run_uv([uv, "pip", "uninstall", "--quiet", "--python", environment.python, "collective.s3blobstorage"])


@pytest.fixture
def served(installed, settings, tmp_path) -> dict:
    """What SERVE reports from the environment."""
    conf = tmp_path / "zeo.conf"
    conf.write_text(
        ZEO_CONF.format(
            bucket=settings.bucket,
            endpoint=settings.endpoint_url,
            region=settings.region,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            folder=tmp_path,
        )
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
    command = [installed[1].python, "-c", SERVE, str(conf)]
    answer = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_zeo_server_needs_no_plone(served, installed):
    assert served["read"] == "kept"
    assert {"zeo", "zodb", "boto3", "collective.s3blobstorage"} <= set(served["distributions"])
    plone = [name for name in served["distributions"] if name.startswith(("plone", "products", "collective.monkey"))]
    assert plone == [] and "zope" not in served["distributions"]
    assert not {"plone", "Products", "Zope2", "OFS", "AccessControl", "ZPublisher"} & set(served["modules"])


def test_both_installs_find_component_and_profiles(served, installed):
    how, environment = installed
    package = Path(served["package"])
    assert served["component"]
    if how == "wheel":
        assert package.is_relative_to(environment.folder)
        profiles = package / "profiles"
    else:
        assert package == REPOSITORY / "src" / "collective" / "s3blobstorage"
        profiles = package.parents[2] / "profiles"
    assert {path.parent.name for path in profiles.glob("*/metadata.xml")} == {"default", "uninstall"}


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"collective"}
    assert "collective/__init__.py" not in names  # a native namespace: other collective.* packages lie beside it
    assert any(name.endswith(".dist-info/licenses/LICENSE.md") for name in names)
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "[plone.autoinclude.plugin]\ntarget = plone" in zipfile.ZipFile(wheel).read(points).decode()
