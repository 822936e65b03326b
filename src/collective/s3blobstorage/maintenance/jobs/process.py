"""Which process runs a job, so that one which was killed on this machine is known to be dead at once. Linux; elsewhere
nothing is known, and the signs of life decide.

A process is told by the boot of its machine, its namespace of process ids, its id and its start: an id that is used
again, another container with ids of its own, and another machine of the same name are none of them. ``proc(5)``.
"""

from __future__ import annotations

import os
from functools import cache

_START = 19  # field 22 of /proc/PID/stat, in clock ticks since the boot, counted behind the command's name


def this_process() -> str:
    """For ``is_dead``; "" where it cannot be told."""
    place, start = _place(), _started(os.getpid())
    return f"{place} {os.getpid()} {start}" if place and start else ""


def is_dead(process: str) -> bool:
    """Whether that process ran on this machine, and is gone. False wherever that is not certain."""
    place, _, rest = process.partition(" ")
    pid, _, start = rest.partition(" ")
    if not place or place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != start


@cache
def _place() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """ "" where there is no such process, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[_START].decode()
