"""docs/scale.md has the numbers that benchmarks/scale_plan.py computes from the rates that are kept."""

from __future__ import annotations

import json
import sys

import pytest
from run_py import REPOSITORY

sys.path.append(str(REPOSITORY))

from benchmarks import scale_plan  # noqa: E402
from benchmarks.scale_plan import PRICES, Figure, Rate, duration, figures, page_with, tables  # noqa: E402

KEPT = json.loads(scale_plan.RATES.read_text())
RATES = {name: Rate(**rate) for name, rate in KEPT["rates"].items()}


def test_the_page_is_as_the_script_writes_it():
    text = scale_plan.PAGE.read_text()
    assert page_with(text, tables(KEPT)) == text, "run: python3 run.py benchmark scale --write"


def test_another_rate_or_price_is_another_page(monkeypatch):
    text = scale_plan.PAGE.read_text()
    for name in KEPT["rates"]:
        other = KEPT["rates"] | {name: KEPT["rates"][name] | {"seconds": 3 * KEPT["rates"][name]["seconds"]}}
        assert page_with(text, tables(KEPT | {"rates": other})) != text
    monkeypatch.setitem(PRICES, "LIST", scale_plan.Price("LIST", 0.006, 1000))
    assert page_with(text, tables(KEPT)) != text


def test_every_rate_was_measured_and_is_used():
    used = {name for figure in figures() for _, name in figure.steps}
    assert used | {"report"} == set(RATES) == {*scale_plan.CHILDREN, "migrate", "deletes"}
    assert all(rate.count >= 2000 and rate.seconds > 0 for rate in RATES.values())
    assert all(RATES[figure.memory].memory > 0 for figure in figures() if figure.memory)


def test_money_and_time_of_a_figure():
    figure = Figure("x", "LIST", {"LIST": 100_000, "HEAD": 1_000_000}, ((100, "a"), (50, "b")), "a", 0)
    assert figure.dollars == pytest.approx(0.5 + 0.4)
    assert figure.seconds({"a": Rate("", 10, 1.0), "b": Rate("", 5, 2.0)}) == pytest.approx(10 + 20)


def test_a_listing_and_a_report_of_a_hundred_million():
    by_name = {(figure.verb, figure.way): figure for figure in figures()}
    assert by_name["fsck", "LIST"].requests == {"LIST": 100_000}
    assert by_name["gc: plan", "Inventory"].requests == {"INVENTORY": 100_000_000, "GET": 102}
    assert by_name["gc: execute", "Inventory"].requests["HEAD"] == 1_000_000
    assert by_name["migrate: all is to be sent", "LIST"].dollars == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize(
    "seconds, shown", [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (86400 * 3, "3.0 days"), (4000, "67 min")]
)
def test_a_duration_is_told_so(seconds, shown):
    assert duration(seconds) == shown
