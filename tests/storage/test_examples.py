"""Every file of ``examples/`` parses, and its parts agree with each other and with docs/deployment.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ZConfig
from example_files import ENTRY_POINT, EXAMPLES, configuration, variables

from collective.s3blobstorage import datatypes
from collective.s3blobstorage.config import S3BlobStorageFactory

yaml = pytest.importorskip("yaml")

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"
STORE = {"S3_BUCKET": "plone-blobs", "S3_REGION": "eu-central-1"}
GB = 1024**3


def every(suffix: str) -> list[str]:
    # Not nginx's: tests/plone/site/test_delivery.py runs it.
    paths = (path.relative_to(EXAMPLES) for path in EXAMPLES.rglob(f"*{suffix}"))
    return sorted(str(path) for path in paths if path.parts[0] != "nginx")


@pytest.fixture
def environment(tmp_path, monkeypatch):
    values = variables(tmp_path, STORE) | {
        "RELSTORAGE_DSN": "dbname='plone' user='plone' host='postgresql' password='x'",
        "ZEO_ADDRESS": "zeo:8100",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def parse_zope(path: Path):
    options = pytest.importorskip("Zope2.Startup.options")
    [database] = options.ZopeWSGIOptions(str(path))().configroot.databases
    return database.config.storage


def parse_zeo(path: Path):
    from ZEO.runzeo import ZEOOptions

    options = ZEOOptions()
    options.realize(["-C", str(path)])
    [storage] = options.storages
    return storage


def test_every_configuration_is_among_those_parsed_here():
    assert every(".conf") == [
        "plone-backend/relstorage.conf",
        "plone-backend/zope.conf",
        "zeo-server-side/zeo.conf",
        "zeo-server-side/zope.conf",
        "zeo/zeo.conf",
        "zeo/zope.conf",
    ]


@pytest.mark.parametrize("name", every(".conf"))
def test_configuration_parses(name, tmp_path, environment):
    path = tmp_path / Path(name).name
    path.write_text(configuration(name, tmp_path))
    storage = parse_zeo(path) if path.name == "zeo.conf" else parse_zope(path)
    without_ours = {"zeo/zeo.conf", "zeo-server-side/zope.conf"}
    assert isinstance(storage, S3BlobStorageFactory) is (name not in without_ours)
    if name not in without_ours:
        assert storage.settings.store.bucket == "plone-blobs"
        assert storage.settings.owner == "production", "an example without owner would let staging write"
        assert storage.settings.store.access_key is None, "credentials come from boto3's chain"


@pytest.mark.parametrize("name", every(".conf"))
def test_configuration_asks_for_no_variable_that_nobody_sets(name):
    used = set(re.findall(r"\$\((\w+)\)", (EXAMPLES / name).read_text()))
    assert used <= {*ENTRY_POINT, "CLIENT_HOME", "RELSTORAGE_DSN", "ZEO_ADDRESS", "S3_BUCKET", "S3_REGION", "S3_OWNER"}


def test_a_missing_variable_is_named(tmp_path, environment, monkeypatch):
    monkeypatch.delenv("S3_BUCKET")
    path = tmp_path / "zope.conf"
    path.write_text(configuration("zeo/zope.conf", tmp_path))
    with pytest.raises(ZConfig.SubstitutionReplacementError, match="S3_BUCKET"):
        parse_zope(path)


# Kubernetes


def manifests(name: str) -> list[dict]:
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes" / name).read_text(encoding="utf-8")))


@pytest.fixture
def pod() -> dict:
    [deployment] = manifests("deployment.yaml")
    return deployment["spec"]["template"]["spec"]


@pytest.fixture
def settings_of_the_pod(tmp_path, environment):
    path = tmp_path / "relstorage.conf"
    path.write_text(configuration("plone-backend/relstorage.conf", tmp_path))
    return parse_zope(path).settings


def gibibytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)", quantity).groups()
    return int(number) * {"Gi": 1, "Mi": 1 / 1024}[unit]


@pytest.mark.parametrize("name", every(".yaml"))
def test_every_manifest_has_a_kind_and_a_name(name):
    found = list(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))
    assert found
    for manifest in found:
        assert {"apiVersion", "kind", "metadata"} <= set(manifest)
        assert manifest["metadata"]["name"] == ("plone-gc" if name == "kubernetes/gc.yaml" else "plone")


def test_the_manifests_belong_together(pod):
    [account] = manifests("serviceaccount.yaml")
    [secret] = manifests("secret.yaml")
    [configmap] = manifests("configmap.yaml")
    service, ingress = manifests("service.yaml")
    [deployment] = manifests("deployment.yaml")
    [container] = pod["containers"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert "RELSTORAGE_DSN" in secret["stringData"]
    assert not [name for name in secret["stringData"] if name.startswith("AWS_")]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert configmap["data"]["relstorage.conf"] == (EXAMPLES / "plone-backend" / "relstorage.conf").read_text()
    given = {entry["name"] for entry in container["env"]} | set(secret["stringData"]) | set(ENTRY_POINT)
    used = set(re.findall(r"\$\((\w+)\)", configmap["data"]["relstorage.conf"]))
    assert used <= given | {"CLIENT_HOME"}
    # the chunks of a tus upload reach the pod that has the first one
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"


def test_liveness_asks_nothing_and_readiness_asks_our_view(pod):
    [container] = pod["containers"]
    assert container["livenessProbe"]["tcpSocket"] == {"port": "http"}
    assert set(container["livenessProbe"]) <= {"tcpSocket", "periodSeconds", "failureThreshold"}
    for probe in ("readinessProbe", "startupProbe"):
        assert container[probe]["httpGet"] == {"path": "/@@s3blobstorage-ready", "port": "http"}


def test_the_pod_may_write_its_volumes_only(pod, settings_of_the_pod):
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    # The user is in no group but its own, so the volumes' group is what lets it write.
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    writable = {m["mountPath"] for m in container["volumeMounts"] if "emptyDir" in volumes[m["name"]]}
    assert writable == {"/cache", "/data", "/tmp"}
    text = (EXAMPLES / "plone-backend" / "relstorage.conf").read_text()
    for folder in re.findall(r"^\s*(?:cache-dir|CHAMELEON_CACHE|path) (/\S+)", text, re.MULTILINE):
        assert any(folder.startswith(f"{volume}/") for volume in writable), folder
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (values["HOME"], values["TMPDIR"]) == ("/tmp", "/tmp")


def test_the_volumes_follow_from_the_settings(pod, settings_of_the_pod):
    """docs/deployment.md: cache = 3 x cache-size; tmp = 2 x threads x max_request_body_size."""
    text = DEPLOYMENT.read_text(encoding="utf-8")
    assert "sizeLimit of the cache volume = 3 × cache-size" in text
    assert "sizeLimit of /tmp = 2 × threads × max_request_body_size" in text
    sizes = {v["name"]: gibibytes(v["emptyDir"]["sizeLimit"]) for v in pod["volumes"] if "emptyDir" in v}
    assert sizes["cache"] * GB == 3 * settings_of_the_pod.cache_size
    assert settings_of_the_pod.commit_within_cache_size is True
    threads, body = 2, 1073741824  # zope.ini of the plone-backend image
    assert sizes["tmp"] * GB == 2 * threads * body
    [container] = pod["containers"]
    assert gibibytes(container["resources"]["limits"]["ephemeral-storage"]) > sum(sizes.values())


# The document


def test_the_document_links_to_every_example():
    text = DEPLOYMENT.read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(\.\./examples/([^)#]+)\)", text))
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    assert {link for link in links if not link.endswith("/")} <= files
    assert files == {file for file in files if file in links or any(file.startswith(x) for x in links if x[-1] == "/")}


@pytest.mark.parametrize("name", every(".json"))
def test_every_policy_is_json(name):
    policy = json.loads((EXAMPLES / name).read_text())
    assert policy["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}


def test_buildout_has_the_three_lines():
    import configparser

    parser = configparser.RawConfigParser()
    parser.read(EXAMPLES / "buildout" / "buildout.cfg")
    instance = parser["instance"]
    assert instance["blob-storage"] == ""
    assert instance["zope-conf-imports"].split() == ["collective.s3blobstorage"]
    assert instance["storage-wrapper"].count("%s") == 1
    assert datatypes.size(re.search(r"cache-size (\S+)", instance["storage-wrapper"])[1]) == 10 * GB
