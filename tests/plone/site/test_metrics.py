"""``@@s3blobstorage-metrics`` over HTTP: who may read what, what is in it, and that the examples name what there is."""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
import stat

import pytest
import yaml
from example_files import EXAMPLES
from prometheus_client.parser import text_string_to_metric_families
from rest_sites import ROLES
from web_client import WebClient

pytestmark = pytest.mark.one_release

PATH = "@@s3blobstorage-metrics"
# As Prometheus 3 asks.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture
def token(sites):
    """Changes the file that the section of a database names; afterwards nobody knows what it holds."""

    def write(database, text, mode=0o600):
        file = sites.instance.home / f"{database}.token"
        file.write_text(text)
        file.chmod(mode)

    yield write
    sites.write_tokens()


def ask(sites, bearer=None, **headers):
    sent = {"Accept": ACCEPT, **headers}
    if bearer is not None:
        sent["Authorization"] = f"Bearer {bearer}"
    return WebClient(sites.instance.port, "").request("GET", PATH, None, sent)


def as_operator(sites):
    return sites.as_user("", "root").request("GET", PATH, None, {"Accept": ACCEPT})


def read(answer):
    """Samples by name and labels."""
    assert answer.status == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def databases(answer):
    return {dict(labels)["database"] for _, *labels in read(answer)}


def test_an_operator_sees_all_databases(sites):
    answer = as_operator(sites)
    assert databases(answer) == {"main", "second"}
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_token_opens_the_databases_that_name_its_file(sites, token):
    one, two = secrets.token_hex(16), secrets.token_hex(16)
    token("main", one + "\n")
    token("second", two)
    assert databases(ask(sites, one)) == {"main"}
    assert databases(ask(sites, two)) == {"second"}
    token("second", one)
    assert databases(ask(sites, one)) == {"main", "second"}
    assert ask(sites, two).status == 401


def test_the_file_is_read_again(sites, token):
    one, two = secrets.token_hex(16), secrets.token_hex(16)
    assert ask(sites, one).status == 401
    token("main", one)
    assert ask(sites, one).status == 200
    token("main", two)
    assert (ask(sites, one).status, ask(sites, two).status) == (401, 200)
    (sites.instance.home / "main.token").unlink()
    assert ask(sites, two).status == 401


@pytest.mark.parametrize("text, mode", [("", 0o600), ("\n", 0o600), ("short", 0o600), ("a b" * 20, 0o600)])
def test_a_file_without_a_token_opens_nothing(sites, token, text, mode):
    token("main", text, mode)
    for bearer in (text.strip(), "", "None", text):
        if "\n" not in bearer:
            assert ask(sites, bearer).status == 401


def test_a_file_that_others_may_write_opens_nothing(sites, token):
    value = secrets.token_hex(16)
    token("main", value, 0o602)
    assert ask(sites, value).status == 401
    (sites.instance.home / "main.token").chmod(0o600)
    assert ask(sites, value).status == 200
    assert stat.S_IMODE((sites.instance.home / "main.token").stat().st_mode) == 0o600
    assert value not in sites.instance.log.read_text()


def test_everybody_else_is_refused(sites, token):
    value = secrets.token_hex(16)
    token("main", value)
    answer = ask(sites)
    assert answer.status == 401 and "Bearer" in answer.headers["WWW-Authenticate"]
    basic = base64.b64encode(f"root:{value}".encode()).decode()
    for header in (f"Basic {basic}", value, "Bearer", f"Bearer {value}x", f"Bearer  {value[:-1]}", "Bearer \xe4" * 9):
        answer = ask(sites, Authorization=header)
        assert answer.status == 401, header
        assert b"s3blobstorage_" not in answer.body and value.encode() not in answer.body
    # A token in the address would be in every log.
    assert WebClient(sites.instance.port, "").get(f"{PATH}?token={value}&Authorization=Bearer%20{value}").status == 401


def test_users_of_a_site_are_nobody_at_the_root(sites):
    for role in (None, *ROLES):
        for site in ("one", "second/site"):
            answer = sites.as_user(site, role).request("GET", f"../{PATH}", None, {})
            assert answer.status in (401, 403, 404), (site, role)
            assert b"s3blobstorage_" not in answer.body
            # The view is the root's: below a site there is none.
            answer = sites.as_user(site, role).request("GET", PATH, None, {})
            assert answer.status in (401, 403, 404), (site, role)
            assert b"s3blobstorage_" not in answer.body


@pytest.mark.parametrize("accept", [ACCEPT, "*/*", "text/plain", None])
def test_whatever_is_accepted(sites, token, accept):
    value = secrets.token_hex(16)
    token("main", value)
    headers = {"Authorization": f"Bearer {value}"} | ({} if accept is None else {"Accept": accept})
    answer = WebClient(sites.instance.port, "").request("GET", PATH, None, headers)
    assert answer.status == 200


def test_counters_only_grow(sites):
    """What a visitor does shows; no label names a bucket, a key, a path or a user."""
    before = as_operator(sites)
    file = {"data": "eHh4eHh4", "encoding": "base64", "filename": "x.bin", "content-type": "application/octet-stream"}
    assert sites.ask("one", "Manager", "POST", "", {"@type": "File", "title": "x", "file": file}).status == 201
    after = as_operator(sites)
    old, new = read(before), read(after)
    for name, value in old.items():
        if name[0].endswith(("_total", "_bucket", "_count", "_sum")):
            assert new[name] >= value, name
    put = ("s3blobstorage_requests_total", ("database", "main"), ("verb", "put"))
    assert new[put] > old[put]
    assert new["s3blobstorage_store_reachable", ("database", "main")] == 1
    assert new["s3blobstorage_circuit_open", ("database", "main")] == 0
    assert new["s3blobstorage_cache_bound_bytes", ("database", "main")] > 0
    labels = {label for _, *labels in new for label in labels}
    assert {name for name, _ in labels} == {"database", "verb", "kind", "le"}
    text = after.body.decode()
    for secret in (sites.bucket, str(sites.instance.home), "example.org", "x.bin", sites.instance.password):
        assert secret not in text


def test_a_histogram_is_one(sites):
    samples = read(as_operator(sites))
    name = "s3blobstorage_request_duration_seconds"
    for verb in ("get", "head", "put", "list", "delete", "copy", "other"):
        buckets = sorted(
            (float(dict(labels)["le"]), value)
            for (each, *labels), value in samples.items()
            if each == f"{name}_bucket" and ("verb", verb) in labels and ("database", "main") in labels
        )
        counts = [count for _, count in buckets]
        assert counts == sorted(counts) and buckets[-1][0] == math.inf
        total = samples[f"{name}_count", ("database", "main"), ("verb", verb)]
        assert counts[-1] == total == samples["s3blobstorage_requests_total", ("database", "main"), ("verb", verb)]


# The examples


def expressions():
    rules = yaml.safe_load((EXAMPLES / "monitoring" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["annotations"]["summary"]
            yield rule["alert"], rule["expr"]
    board = json.loads((EXAMPLES / "monitoring" / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


def test_examples_name_what_there_is(sites):
    samples = read(as_operator(sites))
    names = {name for name, *_ in samples}
    values: dict[str, set[str]] = {}
    for _, *labels in samples:
        for label, value in labels:
            values.setdefault(label, set()).add(value)
    seen = set()
    for what, expression in expressions():
        used = set(re.findall(r"\bs3blobstorage_\w+", expression))
        assert used and used <= names, (what, used - names)
        seen |= used
        for label, value in re.findall(r'(\w+)="([^"]*)"', expression):
            assert value in values[label], (what, label, value)
        for by in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(by.split(", ")) <= set(values) | {"instance"}, (what, by)
        assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")
    assert {"s3blobstorage_store_reachable", "s3blobstorage_circuit_open"} <= seen


def test_the_example_for_prometheus():
    scrape = yaml.safe_load((EXAMPLES / "monitoring" / "prometheus.yaml").read_text())
    [job] = scrape["scrape_configs"]
    assert job["metrics_path"] == f"/{PATH}" and "credentials_file" in job["authorization"]
    assert all((EXAMPLES / "monitoring" / name).is_file() for name in scrape["rule_files"])


def test_the_docs_name_what_there_is(sites):
    names = {name for name, *_ in read(as_operator(sites))}
    text = (EXAMPLES.parent / "docs" / "monitoring.md").read_text()
    named = set(re.findall(r"`(s3blobstorage_\w+)`", text))
    named |= {f"s3blobstorage_cache{rest}" for rest in re.findall(r"`…(_\w+)`", text)}
    assert named - {"s3blobstorage_request_duration_seconds"} <= names
    plain = {name for name in names if not name.startswith("s3blobstorage_request_duration_seconds")}
    assert plain == named - {"s3blobstorage_request_duration_seconds"}
