"""What a request may start a job with: the job's own options, strictly as JSON has them."""

from __future__ import annotations

import pytest

pytest.importorskip("plone.restapi")

from contract_blobs import OPTIONS, Jobs, Status  # noqa: E402
from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from zope.interface.verify import verifyObject  # noqa: E402

from collective.s3blobstorage.maintenance.jobs.interfaces import IJobs, Kind  # noqa: E402
from collective.s3blobstorage.services.blob_jobs.options import options_of  # noqa: E402
from collective.s3blobstorage.services.refusal import Refusal  # noqa: E402
from collective.s3blobstorage.status.interfaces import IStatus  # noqa: E402

GC, ROTATE, MIGRATE, COUNT = (Kind(name, "", OPTIONS[name]) for name in ("gc", "rotate", "migrate", "count"))


def test_what_is_in_memory_keeps_the_contracts():
    assert verifyObject(IJobs, Jobs()) and verifyObject(IStatus, Status())


@pytest.mark.parametrize(
    ("kind", "body", "options"),
    [
        (GC, {}, {"dry_run": True, "plan": None, "allow": 0.2}),
        (GC, {"dry_run": True, "allow": 1}, {"dry_run": True, "plan": None, "allow": 1}),
        (GC, {"dry_run": False, "plan": "p"}, {"dry_run": False, "plan": "p", "allow": 0.2}),
        (GC, {"plan": None}, {"dry_run": True, "plan": None, "allow": 0.2}),
        (ROTATE, {"convert": True}, {"dry_run": True, "convert": True, "limit_rate": 0}),
        (MIGRATE, {"dry_run": False, "source": "old"}, {"dry_run": False, "source": "old", "limit_rate": 0}),
        (COUNT, {}, {}),
    ],
)
def test_what_is_started(kind, body, options):
    assert options_of(kind, body) == options


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (GC, {"dry_run": "false"}, "dry_run"),
        (GC, {"dry_run": 0, "plan": "p"}, "dry_run"),
        (GC, {"dry_run": None, "plan": "p"}, "dry_run"),
        (GC, {"dry_run": [], "plan": "p"}, "dry_run"),
        (GC, {"dry_run": False}, "plan"),
        (GC, {"dry_run": False, "plan": ""}, "plan"),
        (GC, {"dry_run": False, "plan": None}, "plan"),
        (GC, {"plan": 1}, "plan"),
        (GC, {"allow": True}, "allow"),
        (GC, {"allow": "1"}, "allow"),
        (GC, {"allow": float("nan")}, "allow"),
        (GC, {"allow": 1.5}, "allow"),
        (GC, {"allow": -0.1}, "allow"),
        (GC, {"dryrun": False}, "dryrun"),
        (ROTATE, {"convert": 1}, "convert"),
        (COUNT, {"dry_run": False}, "dry_run"),
        (MIGRATE, {"source": ["old"]}, "source"),
    ],
)
def test_what_is_not(kind, body, field):
    with pytest.raises(Refusal) as raised:
        options_of(kind, body)
    assert raised.value.status == 400 and raised.value.more == {"field": field}
    assert str(raised.value).startswith(f"{field} ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(st.sampled_from([GC, ROTATE, MIGRATE]), JSON)
def test_nothing_but_false_executes(kind, value):
    """Whatever a client in another language takes for false."""
    assume(value is not False)
    body = {"dry_run": value} | ({"plan": "p"} if kind is GC else {})
    try:
        assert options_of(kind, body)["dry_run"] is True
    except Refusal:
        assert value is not True
