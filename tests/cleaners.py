"""Cleaning the cache in tests that count what is cleaned: the cleaners' own threads must not come between."""

import time


def until_idle(*caches):
    """What the caches' own threads were asked to clean is done."""
    idle = 0
    while idle < 20:
        busy = any(cache._cleaner._requested or cache._cleaner._cleaning.locked() for cache in caches)
        idle = 0 if busy else idle + 1
        time.sleep(0.01)
