"""The ways to the store that the benchmark delays: each is a process of its own, with a round trip.

In the contestants' process it would share their interpreter lock. Times are taken behind delay.py, which costs little;
requests are counted behind the tests' proxy: ``python -m benchmarks.way UPSTREAM ROUND-TRIP-MS`` prints its address; to
each line on its standard input it answers with what passed since the last one, as JSON, and it ends with its input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from servers.proxy import Proxy  # noqa: E402

BLOBS = "/blobs/"  # in the key of every blob, ours and zodb-s3blobs'


class Way:
    """A process that forwards, from ``with`` to its end. ``round_trip`` in milliseconds."""

    module = "benchmarks.delay"

    def __init__(self, upstream: str, round_trip: float):
        self._command = [sys.executable, "-m", self.module, upstream, str(round_trip)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint_url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class CountingWay(Way):
    """The same, which knows what passed."""

    module = "benchmarks.way"

    def passed(self) -> dict[str, int]:
        """Requests for blobs since this was last asked, and the bytes of their bodies in both directions."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main(upstream: str, round_trip: float) -> None:
    with Proxy(upstream) as proxy:
        proxy.round_trip(round_trip)
        print(proxy.endpoint_url, flush=True)
        for _ in sys.stdin:
            exchanges = [exchange for exchange in proxy.exchanges if BLOBS in exchange.path]
            proxy.reset()
            moved = sum(exchange.bytes_up + exchange.bytes_down for exchange in exchanges)
            print(json.dumps({"requests": len(exchanges), "bytes": moved}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
