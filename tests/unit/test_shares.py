"""Which part of the tests is run where not all are."""

from __future__ import annotations

import pytest
from shares import share_of

NAMES = [f"test_{number}" for number in range(100)]


@pytest.mark.parametrize(("share", "number"), [(1, 100), (0.35, 35), (0.001, 1)])
def test_so_many_and_at_least_one(share, number):
    chosen = share_of(NAMES, share, "tier")
    assert len(chosen) == number
    assert chosen <= set(NAMES)


def test_the_same_in_any_order_and_others_with_another_seed():
    assert share_of(NAMES, 0.5, "tier") == share_of(NAMES[::-1], 0.5, "tier") != share_of(NAMES, 0.5, "ceph")
