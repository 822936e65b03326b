"""The examples of docs/addons.md, run one after the other on a real database and a real bucket."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import transaction
from persistent.mapping import PersistentMapping
from servers.proxy import Proxy
from sites import bucket_keys
from zope.component import provideUtility
from zope.component.testing import tearDown

from collective.s3blobstorage.settings import DeliverySettings

pytest.importorskip("Zope2")  # the utility is Plone's side

from collective.s3blobstorage.utilities import BlobStorages  # noqa: E402

DOCUMENT = Path(__file__).parents[2] / "docs" / "addons.md"


def examples(kind: str) -> str:
    """All of one kind as one module, each line where it is in the document."""
    lines, inside = [], None
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        opened = re.fullmatch(r"```(python.*)?", line)
        if opened and inside is None:
            inside = opened[1]
        elif opened:
            inside = None
        else:
            lines.append(line if inside == kind else "")
            continue
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def site(make_site, s3_server, settings, ca):
    """Over https, as a customer's key needs it."""
    upstream = getattr(s3_server, "tls_endpoint_url", None)
    with Proxy(upstream or s3_server.endpoint_url, ca=ca, upstream_ca=ca.bundle if upstream else None) as between:
        store = dataclasses.replace(settings, endpoint_url=between.endpoint_url, ca_bundle=ca.bundle)
        delivery = DeliverySettings(public_url_base="https://files.example.org")
        provideUtility(BlobStorages())
        made = make_site("filestorage", store=store, delivery=delivery)
        yield made
        made.close_all()
        tearDown()


@pytest.mark.slow
def test_every_example(site, settings):
    manager = transaction.TransactionManager()
    connection = site.db().open(manager)
    names = {"context": connection.root(), "thirty_two_bytes": b"1" * 32, "thirty_two_others": b"2" * 32}
    exec(compile(examples("python"), str(DOCUMENT), "exec"), names)
    exec(compile(examples("python https"), str(DOCUMENT), "exec"), names)
    connection.close()

    # The function that the last one defines, in transactions that end in both ways.
    def reports() -> list[str]:
        return [key for key in bucket_keys(settings) if key.startswith("addons/collective.reports/reports/")]

    holder = PersistentMapping()
    for data, ends in ((b"first", "commit"), (b"second", "commit"), (b"third", "abort")):
        transaction.begin()
        kept = getattr(holder, "report_key", None)
        names["replace_report"](holder, data)
        assert len(reports()) == (2 if kept else 1)
        getattr(transaction, ends)()
        assert len(reports()) == 1
        if ends == "abort":
            holder.report_key = kept
    assert names["space"].get(holder.report_key) == b"second"


def test_there_are_examples_of_both_kinds():
    for kind in ("python", "python https"):
        assert "space.put(" in examples(kind)
