"""The callback of an object space: one call at a time, and none after it raised."""

from __future__ import annotations

import threading
import time

import pytest

from collective.s3blobstorage.objectspace.progress import Progress, guarded


def test_none_is_none():
    assert guarded(None) is None


def test_it_is_called_by_one_thread_at_a_time():
    inside, most, total = [0], [0], [0]

    def callback(count):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        seen = total[0]
        time.sleep(0.0005)
        total[0] = seen + count
        inside[0] -= 1

    told = Progress(callback)
    threads = [threading.Thread(target=lambda: [told(1) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == ([1], [160])


def test_after_it_raised_it_is_not_called_again():
    counts = []

    def callback(count):
        counts.append(count)
        raise KeyError("enough")

    told = Progress(callback)
    with pytest.raises(KeyError) as first:
        told(3)
    with pytest.raises(KeyError) as second:
        told(4)
    told(-3)
    assert counts == [3] and first.value is second.value
