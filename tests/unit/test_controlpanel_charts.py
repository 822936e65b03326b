"""Charts are well-formed SVG, say what they show, and show what they are given."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.controlpanel.charts import HEIGHT, Bar, bars, meter

SVG = "{http://www.w3.org/2000/svg}"


def heights(chart):
    return [float(rect.get("height")) for rect in ElementTree.fromstring(chart).iter(f"{SVG}rect")]


def test_each_value_is_a_bar_as_high_as_its_share():
    chart = bars("day", "Hit rate", "of 24 hours", [Bar(1.0, "a"), Bar(0.25, "b"), Bar(None, "c"), Bar(0.0, "d")])
    assert heights(chart) == [HEIGHT, HEIGHT / 4, 1]
    places = [float(rect.get("x")) for rect in ElementTree.fromstring(chart).iter(f"{SVG}rect")]
    assert places == [1, 11, 31]  # the gap of what is not known stays a gap


def test_no_value_at_all_is_a_chart_without_a_bar():
    assert heights(bars("day", "Hit rate", "of 24 hours", [])) == []


@pytest.mark.parametrize(("share", "width"), [(0.0, 0), (0.5, 50), (1.0, 100), (1.7, 100), (-1.0, 0)])
def test_a_meter_is_filled_as_far_as_the_share_says(share, width):
    ground, filled = ElementTree.fromstring(meter("used", "Used", "half", share)).iter(f"{SVG}rect")
    assert (float(ground.get("width")), float(filled.get("width"))) == (100, width)


# What XML cannot hold at all is in no text of ours.
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))


@given(texts, texts, texts, st.lists(st.builds(Bar, st.none() | st.floats(-1, 2), texts), max_size=30))
def test_whatever_the_texts_are_they_stay_texts(title, description, label, values):
    chart = ElementTree.fromstring(bars("a", title, description, [*values, Bar(0.5, label)]))
    assert {child.tag for child in chart.iter()} <= {SVG + tag for tag in ("svg", "title", "desc", "line", "rect")}
    assert chart.findtext(f"{SVG}title") == title
    assert chart.findtext(f"{SVG}desc") == description
    assert list(chart.iter(f"{SVG}rect"))[-1].findtext(f"{SVG}title") == label
    described = chart.get("aria-labelledby").split()
    assert described == [chart.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")]
    assert all(0 <= float(rect.get("height")) <= HEIGHT for rect in chart.iter(f"{SVG}rect"))


def test_a_chart_has_neither_style_nor_script():
    chart = bars("day", "Hit rate", "<script>", [Bar(0.5, "x")])
    assert re.search(r"style=|<script|\son\w+=", chart) is None
