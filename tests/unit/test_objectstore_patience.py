"""How often a request is repeated, with a clock that is set by hand."""

from __future__ import annotations

import pytest

from collective.s3blobstorage.errors import Refused, Unavailable
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Cancelled
from collective.s3blobstorage.objectstore.patience import Attempts, Patience
from collective.s3blobstorage.objectstore.translate import BodyBroken, Failure


class HandClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.clock = Clock(monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


class Request:
    """Fails the given number of times, then answers; takes ``seconds`` each time."""

    def __init__(self, hand: HandClock, failures: int, error: Exception | None = None, seconds: float = 0.0) -> None:
        self.hand, self.failures, self.error, self.seconds = hand, failures, error or BodyBroken("reset"), seconds
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.hand.now += self.seconds
        if self.calls <= self.failures:
            raise self.error
        return "answer"


def test_repeats_until_it_succeeds(hand):
    request = Request(hand, failures=3)
    attempts = Attempts(Patience(attempts=4), hand.clock, what="GET")
    assert attempts.run(request) == "answer"
    assert request.calls == 4 and attempts.ambiguous


def test_gives_up_after_the_last_attempt_without_a_cause(hand):
    request = Request(hand, failures=9)
    with pytest.raises(Unavailable) as raised:
        Attempts(Patience(attempts=2), hand.clock, what="GET").run(request)
    assert request.calls == 2
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_gives_up_when_its_time_is_over(hand):
    request = Request(hand, failures=999, seconds=4.0)
    with pytest.raises(Unavailable):
        Attempts(Patience(attempts=1000, seconds=30.0), hand.clock, what="PUT").run(request)
    # The first failure came after 4 s; the last attempt began within 30 s of it and took 4 s more.
    assert 1000 + 4 < hand.now <= 1000 + 4 + 30 + 4
    assert request.calls < 10


def test_no_attempt_begins_after_the_deadline(hand):
    request = Request(hand, failures=999, seconds=3.0)
    with pytest.raises(Unavailable, match="download-deadline"):
        Attempts(Patience(attempts=1000), hand.clock, what="GET", until=hand.now + 10).run(request)
    assert hand.now < 1000 + 10 + 3


def test_progress_renews_the_attempts(hand):
    attempts = Attempts(Patience(attempts=2), hand.clock, what="GET")
    for _ in range(50):
        attempts.progressed()
        attempts.failed(Failure(Unavailable("x"), retry=True))
    with pytest.raises(Unavailable):
        attempts.failed(Failure(Unavailable("x"), retry=True))


def test_pauses_double_up_to_a_bound_and_differ():
    patience = Patience(attempts=9, first_pause=0.1, longest_pause=5.0)
    for failures, full in ((1, 0.1), (2, 0.2), (5, 1.6), (7, 5.0), (1000, 5.0)):
        drawn = {patience.pause(failures) for _ in range(50)}
        assert len(drawn) > 10
        assert all(full / 2 <= pause <= full for pause in drawn)


def test_retry_after_is_honoured_up_to_the_longest_pause():
    patience = Patience(attempts=9, longest_pause=5.0)
    assert patience.pause(1, retry_after=3.0) == 3.0
    assert patience.pause(1, retry_after=3600.0) == 5.0


def test_what_is_no_use_to_repeat_is_not_repeated(hand):
    attempts = Attempts(Patience(attempts=9), hand.clock, what="GET")
    with pytest.raises(Refused):
        attempts.failed(Failure(Refused("x")))
    assert hand.slept == []


def test_another_exception_goes_through_at_once(hand):
    request = Request(hand, failures=1, error=OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        Attempts(Patience(attempts=9), hand.clock, what="GET").run(request)
    assert request.calls == 1


def test_a_pause_ends_when_it_is_cancelled(hand):
    request = Request(hand, failures=999)
    patience = Patience(attempts=999, first_pause=60.0, longest_pause=60.0)
    with pytest.raises(Cancelled):
        Attempts(patience, hand.clock, what="PUT", cancelled=lambda: hand.now > 1002).run(request)
    assert request.calls == 1 and hand.now < 1003


def test_without_ambiguous_failures_there_is_no_ambiguity(hand):
    attempts = Attempts(Patience(attempts=9), hand.clock, what="PUT")
    attempts.failed(Failure(Unavailable("x"), retry=True))
    assert not attempts.ambiguous
