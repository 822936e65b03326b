"""Plone on each configuration of examples/: make a site, upload, download, restart with an empty cache, download again.

What a container's platform gives (folders, variables, zope.ini) the tests give.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import payloads
import pytest
from example_files import EXAMPLES, configuration, variables
from fixtures_servers import s3_client
from servers.postgresql import PostgreSQL
from servers.process import ServerProcess, free_port
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.one_release  # what is shown is how processes are set up, not Plone
BUILDOUT = ("zc.buildout==6.0.1", "plone.recipe.zope2instance==9.1.0")


@pytest.fixture(autouse=True)
def within_the_tier(request, tier) -> None:
    """Each makes a site: a tier has the first of them."""
    names = [name for name in globals() if name.startswith("test_")]
    if names.index(request.node.originalname) >= tier["example_sites"]:
        pytest.skip(f"tier {tier.name} runs the first {tier['example_sites']} of {len(names)} here; tier full runs all")


@pytest.fixture
def store(s3_server) -> Iterator[dict[str, str]]:
    """A new bucket, and the variables by which boto3 and the examples find it."""
    client = s3_client(s3_server)
    bucket = f"example-{uuid.uuid4().hex[:20]}"
    client.create_bucket(Bucket=bucket)
    client.close()
    return {
        "S3_BUCKET": bucket,
        "S3_REGION": s3_server.region,
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }


@pytest.fixture
def boot(tmp_path, store, s3_server):
    """``boot(zope_conf, home, cache, **environment)``: a site on it, a file in and out, warm and cold."""
    started: list[ZopeInstance] = []

    def boot(
        zope_conf: str, home: Path, cache: Path, blobs_by: str = "us", prefix: str = "", **environment: str
    ) -> ZopeInstance:
        values = {**variables(tmp_path, store), "SITES": "with", **environment}
        if blobs_by != "us":
            values = {name: value for name, value in values.items() if not name.startswith(("AWS_", "S3_"))}
        instance = ZopeInstance(
            home, cache, "", password=secrets.token_urlsafe(12), zope_conf=zope_conf, environment=values
        )
        instance.make()
        started.append(instance)
        instance.start()
        check_files(instance, prefix)
        return instance

    def check_files(instance: ZopeInstance, prefix: str) -> None:
        assert WebClient(instance.port, "").get("@@s3blobstorage-ready").body == b"ok\n"
        editor = WebClient(instance.port, "with", ("editor", instance.password))
        payload = payloads.pdf("example.pdf")
        file = json_file(payload.data, payload.filename, payload.content_type)
        path = editor.add("files", "File", "example", file=file)
        for cold in (False, True):
            if cold:
                instance.restart_with_empty_cache()
            answer = editor.get(f"{path}/@@download/file")
            assert answer.status == 200
            assert payloads.fingerprint(answer.body) == payload.fingerprint
        client = s3_client(s3_server)
        listed = client.list_objects_v2(Bucket=store["S3_BUCKET"], Prefix=f"{prefix}blobs/")["Contents"]
        client.close()
        assert len(payload.data) in {entry["Size"] for entry in listed}

    yield boot
    for instance in started:
        instance.stop()


@pytest.fixture
def zeo(tmp_path, store):
    """``zeo(text)`` starts a ZEO server with that configuration; its address."""
    servers: list[ServerProcess] = []

    def zeo(text: str, **environment: str) -> str:
        address = f"127.0.0.1:{free_port()}"
        path = tmp_path / "zeo.conf"
        path.write_text(text.replace("address 0.0.0.0:8100", f"address {address}"))
        assert address in path.read_text()
        command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(path)]
        server = ServerProcess("ZEO", command, environment, tmp_path / "zeo.log")
        server.start()
        servers.append(server)
        return address

    yield zeo
    for server in servers:
        server.stop()


def files_of(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_plone_backend_with_postgresql_as_in_kubernetes(boot, tmp_path):
    database = PostgreSQL().start()
    try:
        name = database.create_database()
        (tmp_path / "app" / "var").parent.mkdir(exist_ok=True)
        text = configuration("plone-backend/relstorage.conf", tmp_path)
        (tmp_path / "app" / "var").symlink_to(tmp_path / "data")
        instance = boot(
            text,
            tmp_path / "app",
            tmp_path / "cache",
            RELSTORAGE_DSN=database.dsn(name),
            PYTHONDONTWRITEBYTECODE="1",
            TUS_TMP_FILE_DIR=str(tmp_path / "data" / "tus"),
        )
        # The root file system is read-only there: what the tests put into /app is all that is in it.
        assert files_of(tmp_path / "app") <= {"etc/zope.conf", "etc/site.zcml", "etc/zope.ini", "zope.log"}
        database.stop()
        assert WebClient(instance.port, "").get("@@s3blobstorage-ready").status in (500, 503)
    finally:
        database.stop()


# buildout


@pytest.fixture(scope="session")
def buildout(tmp_path_factory) -> str:
    """The program ``buildout`` beside the real recipe: ``$S3BLOBS_BUILDOUT``, or an environment made now."""
    named = os.environ.get("S3BLOBS_BUILDOUT")
    if named:
        return named
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv to install zc.buildout and plone.recipe.zope2instance with, and no $S3BLOBS_BUILDOUT")
    folder = tmp_path_factory.mktemp("buildout-environment")
    environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    for command in (["venv", "--python", sys.executable, folder], ["pip", "install", *pins, *BUILDOUT]):
        run = subprocess.run([uv, "--quiet", *command], env=environment, capture_output=True, text=True, timeout=180)
        if run.returncode:
            pytest.skip(f"zc.buildout and plone.recipe.zope2instance cannot be installed: {run.stderr.strip()[-300:]}")
    return str(folder / "bin" / "buildout")


def rendered_by(buildout: str, folder: Path, more: str = "", **changes: str) -> str:
    """What the recipe makes of the example. It fetches no package: for real, Plone and we are there by then."""
    text = (EXAMPLES / "buildout" / "buildout.cfg").read_text()
    for old, new in {
        "extends = https://dist.plone.org/release/6.2-latest/versions.cfg\n": "offline = true\n",
        "    Plone\n    collective.s3blobstorage\n": "    Zope\n",
        **changes,
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "buildout.cfg").write_text(text + more)
    run = subprocess.run(
        [buildout, "-c", "buildout.cfg"], cwd=folder, capture_output=True, text=True, timeout=120,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    rendered = (folder / "parts" / "instance" / "etc" / "zope.conf").read_text()
    assert rendered.startswith("%import collective.s3blobstorage\n")
    assert "<blobstorage" not in rendered and "blob-dir" not in rendered
    # Where Plone is not, the recipe adds a <temporarystorage>, which is in no package of ours.
    return rendered.partition("<zodb_db temporary>")[0]


def test_buildout_renders_a_zope_conf_that_runs(boot, buildout, tmp_path, store):
    changes = {"my-site-blobs": store["S3_BUCKET"], "eu-central-1": store["S3_REGION"]}
    rendered = rendered_by(buildout, tmp_path, **changes)
    (tmp_path / "var" / "instance").mkdir(parents=True, exist_ok=True)
    boot(rendered, tmp_path / "parts" / "instance", tmp_path / "var" / "s3blobs")


@pytest.mark.parametrize(
    "base, more",
    [
        ("zeoclient", "zeo-client = on\nzeo-address = 127.0.0.1:8100\n"),
        ("relstorage", "rel-storage =\n    type postgresql\n    dsn dbname=plone\n"),
    ],
)
def test_buildout_wraps_the_other_storages_too(buildout, tmp_path, base, more):
    from Zope2.Startup.options import ZopeWSGIOptions

    (tmp_path / "zope.conf").write_text(rendered_by(buildout, tmp_path, more))
    [database] = ZopeWSGIOptions(str(tmp_path / "zope.conf"))().configroot.databases
    section = database.config.storage
    assert section.settings.owner == "production"
    assert section.config.base.config.getSectionType() == base


# The others


def test_cookiecutter_zope_instance_and_the_command(boot, tmp_path, store, s3_server):
    home = tmp_path / "instance"
    (home / "var" / "filestorage").mkdir(parents=True)
    zope_conf = tmp_path / "zope.conf"
    zope_conf.write_text((ROOT / "tests/storage/data/zope-instance.conf").read_text().replace("@HOME@", str(home)))
    values = ["--owner", "production", "--bucket-name", store["S3_BUCKET"], "--s3-endpoint-url", s3_server.endpoint_url]
    command = [Path(sys.executable).with_name("s3blobs"), "zope-conf", zope_conf, *values]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    boot(zope_conf.read_text(), home, home / "var" / "s3blobs", prefix="site/")


def test_plone_backend_with_a_filestorage(boot, tmp_path):
    text = configuration("plone-backend/zope.conf", tmp_path)
    # The image has a link /app/var to /data.
    (tmp_path / "app" / "var").symlink_to(tmp_path / "data")
    boot(text, tmp_path / "app", tmp_path / "cache")
    assert (tmp_path / "data" / "filestorage" / "Data.fs").stat().st_size > 100_000
    assert not list(tmp_path.rglob("blobstorage")), "no blob directory"


def test_zeo_clients_that_read_the_store_themselves(boot, zeo, tmp_path):
    address = zeo(configuration("zeo/zeo.conf", tmp_path))  # without a variable: it needs none
    boot(configuration("zeo/zope.conf", tmp_path), tmp_path / "instance", tmp_path / "cache", ZEO_ADDRESS=address)
    assert not list((tmp_path / "var").rglob("*blob*"))


def test_zeo_server_with_the_section_and_clients_without(boot, zeo, tmp_path, store):
    address = zeo(configuration("zeo-server-side/zeo.conf", tmp_path), **store)
    boot(
        configuration("zeo-server-side/zope.conf", tmp_path),
        tmp_path / "instance",
        tmp_path / "instance" / "var" / "blobcache",
        blobs_by="the server",
        ZEO_ADDRESS=address,
    )
    assert list((tmp_path / "var" / "s3blobs").rglob("*.blob"))
