"""Becomes the command it is given, killed by the kernel when the process that started it dies.

Run as ``python leash.py PARENT_PID COMMAND...`` by process.py. ``PR_SET_PDEATHSIG`` is kept across ``execv``, so the
command has the pid that ``Popen`` knows and needs no watchdog that could itself be killed. A preexec_fn would do the
same, but runs Python between fork and exec, which can deadlock in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl: no signal will come any more
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
