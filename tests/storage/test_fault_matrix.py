"""The cases of ``fault_cases.py``: each keeps its promises, and ends as docs/faults.md says."""

from __future__ import annotations

import random

import pytest
from fault_cases import CASES
from fault_matrix import documented, run_case, title

SEED = 20261121

# The document is of MiniStack, which does not compare a request's body with the hash that was signed. Ceph does.
ON_CEPH = {
    ("wrong byte sent", "CompleteMultipartUpload"): "commits",
    ("wrong byte sent, for ever", "CompleteMultipartUpload"): "Corrupt",
    ("wrong byte sent", "DeleteObjects"): "aborts",
}


# The document is of one run, and jitter decides when the circuit opens. An upload whose beginning was not understood is
# taken back only where it has not opened yet. A read of which every request brings some bytes comes to its end unless
# the pauses of five threads, which count twenty times as long here, open it before.
JITTER = {
    ("truncated body for ever", "CreateMultipartUpload"): "Unavailable, leaves an upload",
    ("wrong byte received, for ever", "CreateMultipartUpload"): "Unavailable, leaves an upload",
    ("truncated body for ever", "GET of 20 MB by parts"): "reads",
    ("hang in the body for ever", "GET of 20 MB by parts"): "reads",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        count = metafunc.config._s3blobs_tier["fault_cases"]
        chosen = CASES if count >= len(CASES) else random.Random(SEED).sample(CASES, count)
        metafunc.parametrize("case", chosen, ids=[title(*case) for case in chosen])


def test_a_request_meets_a_fault(case, settings, tmp_path, ca, pytestconfig):
    trouble, request = case
    outcome = run_case(trouble, request, tmp_path, settings, ca if settings.ca_bundle else None)
    said = documented()[trouble.name, request.name]
    if pytestconfig.getoption("--s3") != "ministack":
        said = ON_CEPH.get((trouble.name, request.name), said)
    assert outcome.what in (said, said.removesuffix(", leaves an upload"), JITTER.get((trouble.name, request.name)))


def test_document_has_every_case():
    """Written anew by ``python tests/storage/fault_matrix.py --write``."""
    assert set(documented()) == {(trouble.name, request.name) for trouble, request in CASES}
