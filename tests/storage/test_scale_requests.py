"""docs/scale.md computes from requests that nobody measured at that size: here each is counted with a few."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter

import pytest
from checked_sites import Checked
from converted_blobs import begin_sharing, converted
from run_py import REPOSITORY
from sites import commit_blobs

sys.path.append(str(REPOSITORY))

from benchmarks.scale_plan import PAGE_KEYS, figures  # noqa: E402

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

KINDS = {"PutObject": "PUT", "CopyObject": "PUT", "HeadObject": "HEAD", "GetObject": "GET"}
KINDS |= {"DeleteObjects": "DELETE", "ListObjectsV2": "LIST"}


def pairs(number):
    """So many contents, each of two blobs."""
    data = [f"{number} {each} ".encode() * 300 for each in range(number)]
    return {f"{side}{each}": data[each] for each in range(number) for side in ("a", "b")}


def test_dedup_makes_the_requests_of_its_figures(make_site, settings, proxy):
    taken = []
    for number in (10, 20):
        store = dataclasses.replace(settings, prefix=f"of-{number}", endpoint_url=proxy.endpoint_url)
        made = make_site("filestorage", store=store, owner="www.example.org", preflight=False, gc_on_pack="off")
        with Checked(made) as checked:
            commit_blobs(checked.db, **pairs(number))
            begin_sharing(store)
            proxy.reset()
            assert converted(checked.storage).converted.blobs == 2 * number
            taken.append(Counter(KINDS.get(each.operation, each.operation) for each in proxy.exchanges))
    # What is asked once for a run, as a look at the bucket's versions, is not among them.
    more = {kind: (count - taken[0][kind]) / 10 for kind, count in taken[1].items() if count != taken[0][kind]}
    objects = 1_000_000
    [figure] = [each for each in figures(objects) if each.verb.startswith("dedup") and each.way == "LIST"]
    contents = figure.requests["GET"]
    told = dict(figure.requests) | {"LIST": figure.requests["LIST"] - objects // PAGE_KEYS}
    assert more == {kind: count / contents for kind, count in told.items()}
