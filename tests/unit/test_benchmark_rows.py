"""The benchmark's judgement: which figure counts, and when a target is met. No clock, no store."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest
from run_py import REPOSITORY

sys.path.append(str(REPOSITORY))

from benchmarks import report  # noqa: E402
from benchmarks.plot import svg  # noqa: E402
from benchmarks.rows import BASE, OURS, PEER, Limit, Ratio, Row, lines, rows  # noqa: E402
from benchmarks.scale import MB, QUICK, Scale, blocks, small_blob  # noqa: E402


def row(*checks, **values):
    return Row("name", "title", "work", (OURS, PEER), checks, **values)


def timed(*seconds):
    return [{"seconds": value} for value in seconds]


def test_a_ratio_is_taken_of_the_best_repetitions():
    (line,) = lines(row(Ratio(PEER, 0.5)), {OURS: timed(3.0, 1.0, 2.0), PEER: timed(9.0, 4.0)})
    assert (line.value, line.share, line.met) == (0.25, 0.5, True)
    assert (line.ours, line.other) == ("1 s (to 3 s)", "zodb-s3blobs: 4 s (to 9 s)")


def test_a_figure_that_is_the_worst_of_many_is_taken_as_the_median():
    (line,) = lines(row(Ratio(PEER, 1.0), pick="median"), {OURS: timed(1.0, 2.0, 9.0), PEER: timed(1.0, 1.0, 5.0)})
    assert (line.value, line.met) == (2.0, False)


def test_a_contestant_that_is_not_installed_is_said_and_not_judged():
    (line,) = lines(row(Ratio(PEER, 0.5)), {OURS: timed(1.0)})
    assert (line.other, line.value, line.met) == ("zodb-s3blobs: not installed", None, None)


def test_a_quick_run_judges_counts_and_no_speed():
    samples = {OURS: [{"seconds": 9.0, "requests": 3}], PEER: [{"seconds": 1.0, "requests": 6}]}
    ratio, limit = lines(row(Ratio(PEER, 0.5), Limit("requests", 3, "exactly")), samples, judge_speed=False)
    assert (ratio.value, ratio.met, limit.met) == (9.0, None, True)


@pytest.mark.parametrize(
    "sense, target, values, value, share, met",
    [
        ("at most", 2, [1, 2], 2, 1.0, True),
        ("at most", 2, [1, 3], 3, 1.5, False),  # one repetition breaks the promise
        ("at most", 0, [0, 0], 0, 0, True),
        ("at most", 0, [0, 1], 1, 1, False),
        ("exactly", 64, [64, 64], 64, 1.0, True),
        ("exactly", 64, [63, 63], 63, 63 / 64, False),
        ("at least", 100, [200, 400], 200, 0.5, True),
        ("at least", 100, [50, 400], 50, 2.0, False),
        ("at least", 100, [0], 0, float("inf"), False),
    ],
)
def test_a_limit_is_held_by_the_least_favourable_repetition(sense, target, values, value, share, met):
    (line,) = lines(row(Limit("count", target, sense)), {OURS: [{"count": number} for number in values]})
    assert (line.value, line.share, line.met) == (value, share, met)


def test_a_limit_shows_what_the_peer_needs():
    samples = {OURS: [{"bytes": MB}], PEER: [{"bytes": 17 * MB}]}
    (line,) = lines(row(Limit("bytes", 4 * MB, unit="bytes")), samples)
    assert (line.figure, line.other, line.target) == ("1 MB", "zodb-s3blobs: 17 MB", "≤ 4 MB")


def test_a_repetition_that_counts_is_not_timed_and_one_that_is_timed_does_not_count():
    one = row(Ratio(PEER, 0.5), Limit("requests", 3, "exactly"))
    assert (one.timed, one.counted) == (True, True)
    ratio, limit = lines(one, {name: [*timed(2.0, 1.0), {"requests": 3, "bytes": 9}] for name in (OURS, PEER)})
    assert (ratio.ours, ratio.value, limit.value, limit.met) == ("1 s (to 2 s)", 1.0, 3, True)


def test_only_what_the_way_counts_makes_a_row_a_counted_one():
    assert [row(Limit(figure, 1)).counted for figure in ("requests", "bytes", "above_idle")] == [True, True, False]
    assert not row(Limit("requests", 1)).timed


@pytest.mark.parametrize("scale", [Scale(), QUICK])
def test_every_row_is_checked_against_a_contestant_that_takes_part(scale):
    all_rows = rows(scale)
    assert len({one.name for one in all_rows}) == len(all_rows)
    for one in all_rows:
        assert OURS in one.contestants
        assert {check.to for check in one.checks if isinstance(check, Ratio)} <= set(one.contestants)


def test_the_bytes_are_those_of_the_seed():
    assert small_blob(Scale(seed=1), 7) == small_blob(Scale(seed=1), 7) != small_blob(Scale(seed=2), 7)
    whole = b"".join(blocks(QUICK, 2 * MB + 3))
    assert len(whole) == 2 * MB + 3
    assert whole[:MB] != whole[MB : 2 * MB]


def test_the_plot_is_svg_with_a_bar_per_target():
    made = lines(row(Ratio(PEER, 0.5), Ratio(BASE, None)), {OURS: timed(1.0), PEER: timed(4.0), BASE: timed(1.0)})
    bars = ElementTree.fromstring(svg(made)).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 2  # the background, and the one ratio that has a target


def test_written_docs_have_the_new_table_and_keep_the_rest(tmp_path):
    (tmp_path / "performance.md").write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    made = lines(row(Ratio(PEER, 0.5)), {OURS: timed(1.0), PEER: timed(4.0)})
    report.write(tmp_path, "the head", made)
    text = (tmp_path / "performance.md").read_text()
    assert re.fullmatch(r"above\n<!-- begin.*-->\nthe head\.\n\n\| row .*\n<!-- end -->\nbelow\n", text, re.DOTALL)
    assert "0.25 ×" in text and "old" not in text
    assert (tmp_path / "images" / "performance.svg").exists()


def test_the_page_of_this_repository_has_the_place_for_the_table():
    text = (REPOSITORY / "docs" / "performance.md").read_text()
    assert 0 < text.index(report.BEGIN) < text.index(report.END)
