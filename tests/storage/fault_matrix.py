"""Each request of an opening, a commit, an abort and a read meets each fault; what came of it is a table in the docs.

    python tests/storage/fault_matrix.py            # runs all cases on MiniStack and prints the tables
    python tests/storage/fault_matrix.py --write    # and writes them into docs/faults.md

``test_fault_matrix.py`` runs the same cases and compares with that document.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import random
import re
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import transaction
import ZODB
from fault_cases import CASES, REQUESTS, SMALL, TROUBLES, Request, Trouble
from servers.ca import CertificateAuthority
from servers.faults import answer
from servers.proxy import Proxy
from sites import connected, raw_client
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError

from collective.s3blobstorage.errors import S3BlobStorageError
from collective.s3blobstorage.objectstore.patience import Clock
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.record import read_state

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN = "<!-- fault matrix: written by tests/storage/fault_matrix.py -->\n"
END = "<!-- end of the fault matrix -->\n"

# A pause takes no time, and counts as twenty times as long: patience ends after a handful of attempts.
PAUSE_FACTOR = 20.0


class FastClock:
    def __init__(self) -> None:
        self.offset = 0.0

    def sleep(self, seconds: float) -> None:
        self.offset += seconds * PAUSE_FACTOR

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: time.monotonic() + self.offset, sleep=self.sleep)


class Messages(logging.Handler):
    """What the package says to the operator."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def messages() -> Iterator[list[str]]:
    logger = logging.getLogger("collective.s3blobstorage")
    handler = Messages()
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(size + seed).randbytes(size)


class Bench:
    """One database over FileStorage, on a prefix of its own, behind a proxy; with ``ca`` https is spoken throughout."""

    def __init__(self, folder: Path, store: StoreSettings, ca: CertificateAuthority | None = None):
        self.folder = folder
        self.direct = dataclasses.replace(store, prefix=f"m{uuid.uuid4().hex[:12]}")
        self.proxy = Proxy(store.endpoint_url, ca=ca, upstream_ca=store.ca_bundle).start()
        behind = dataclasses.replace(
            self.direct,
            endpoint_url=self.proxy.endpoint_url,
            connect_timeout=1.0,
            read_timeout=1.0,
            download_connect_timeout=1.0,
            download_read_timeout=1.0,
            download_deadline=6.0,
        )
        self.settings = StorageSettings(store=behind, cache_dir=folder / "cache")
        self.client = raw_client(self.direct)
        self.db: Any = None
        self.blobs: dict[str, bytes] = {}  # what must be readable in the end

    def open(self) -> None:
        base = FileStorage(str(self.folder / "Data.fs"))
        self.db = ZODB.DB(open_storage(base, self.settings, clock=FastClock().clock()))

    def close(self) -> None:
        if self.db is not None:
            self.db.close()
            self.db = None
        self.proxy.close()
        self.client.close()

    def put(self, name: str, data: bytes) -> None:
        with connected(self.db) as connection:
            root = connection.root()
            if name in root:
                with root[name].open("w") as file:
                    file.write(data)
            else:
                root[name] = Blob(data)
            connection.transaction_manager.commit()
        self.blobs[name] = data

    def get(self, name: str) -> bytes:
        with connected(self.db) as connection, connection.root()[name].open("r") as file:
            return file.read()

    def drop_cached(self) -> None:
        for path in (self.folder / "cache").glob("*/blobs/*/*"):
            path.unlink()

    # The operations; each returns what happened. Before the fault strikes, ``prepare_…`` was called.

    def prepare(self, request: Request) -> None:
        if request.operation == "first_opening":
            return
        self.open()
        self.put("before", content(SMALL))
        if request.operation == "read":
            self.put("read", content(request.size, 1))
            self.drop_cached()
        if request.operation == "restore":
            self._prepare_restore()
        if request.operation == "opening":
            self.db.close()
            self.db = None

    def opening(self, request: Request) -> str:
        self.open()
        return "opens"

    first_opening = opening

    def commit(self, request: Request) -> str:
        self.put("new", content(request.size, 1))
        return "commits"

    def read(self, request: Request) -> str:
        assert self.get("read") == self.blobs["read"], "a wrong byte was read"
        return "reads"

    def _prepare_restore(self) -> None:
        """A record and its file, as a copy from another database brings them; the object is in the bucket."""
        with connected(self.db) as connection:
            blob = connection.root()["before"]
            blob._p_activate()
            oid, tid = blob._p_oid, blob._p_serial
        record, _ = self.db.storage.load(oid)
        path = self.folder / "restored"
        path.write_bytes(self.blobs["before"])
        self.restored = (oid, tid, record, str(path))

    def restore(self, request: Request) -> str:
        oid, tid, record, path = self.restored
        base = FileStorage(str(self.folder / "Restored.fs"))
        other = open_storage(
            base, dataclasses.replace(self.settings, cache_dir=self.folder / "cache2"), clock=FastClock().clock()
        )
        try:
            metadata = TransactionMetaData()
            other.tpc_begin(metadata, tid, " ")
            try:
                other.restoreBlob(oid, tid, record, path, None, metadata)
                other.tpc_vote(metadata)
                other.tpc_finish(metadata)
            except BaseException:
                other.tpc_abort(metadata)
                raise
            with open(other.loadBlob(oid, tid), "rb") as file:
                assert file.read() == self.blobs["before"]
        finally:
            other.close()
        return "commits"

    def abort_one(self, request: Request) -> str:
        return self._conflict({"before": b"lost"})

    def abort_two(self, request: Request) -> str:
        return self._conflict({"before": b"lost", "lost too": b"lost too"})

    def _conflict(self, blobs: dict[str, bytes]) -> str:
        """Upload, lose against another transaction that changed the same blob, abort."""
        with connected(self.db) as first:
            root = first.root()
            for name, data in blobs.items():
                if name in root:
                    with root[name].open("w") as file:
                        file.write(data)
                else:
                    root[name] = Blob(data)
            self.put("before", b"won")
            try:
                first.transaction_manager.commit()
            except ConflictError:
                first.transaction_manager.abort()
            else:
                raise AssertionError("there was no conflict")
        self.db.storage.uploads.settle()
        return "aborts"

    def abort_parts(self, request: Request) -> str:
        """A multipart upload that fails at its end is aborted at the store."""
        self.proxy.fail(answer(403, "AccessDenied"), method="POST", target="uploadId=")
        try:
            self.put("new", content(request.size, 1))
        except S3BlobStorageError:
            self.db.storage.uploads.settle()
            return "aborts"
        raise AssertionError("it was committed")

    # Afterwards

    def records(self) -> set[str]:
        named = set()
        for recorded in self.db.storage.iterator():
            for record in recorded:
                state = read_state(record.data)
                if state is not None:
                    named.add(f"{self.direct.prefix}/blobs/{record.oid.hex()}/{state.name}")
        return named

    def leftovers(self) -> list[str]:
        """Objects that no record names."""
        found = self.client.list_objects_v2(Bucket=self.direct.bucket, Prefix=f"{self.direct.prefix}/blobs/")
        return sorted({found["Key"] for found in found.get("Contents", ())} - self.records())

    def unfinished(self) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=self.direct.bucket).get("Uploads", ())
        return [upload["Key"] for upload in uploads if upload["Key"].startswith(self.direct.prefix)]

    def check(self, said: list[str]) -> str:
        """The invariants, once the fault is over. Returns what was left behind, which must have been said."""
        if self.db is None:
            self.open()
        self.db.storage.uploads.settle()
        left = ""
        if self.unfinished():
            assert any("unfinished multipart upload" in line for line in said), "an upload was left without a word"
            left += ", leaves an upload"
        if self.leftovers():
            assert any("stay until gc" in line for line in said), "an object was left without a word"
            left += ", leaves an object"
        staged = [path for path in self.folder.glob("cache*/*/processes/*/**/*") if path.is_file()]
        assert {path.name for path in staged} <= {"lock", "counters.json"}, "something is left in staging"
        self.put("next", content(SMALL, 2))
        self.drop_cached()
        for name, data in self.blobs.items():
            assert self.get(name) == data, f"a wrong byte in {name}"
        with connected(self.db) as connection:
            assert set(self.blobs) == set(connection.root())
        return left


@dataclasses.dataclass(frozen=True)
class Outcome:
    what: str  # "commits", or the name of the error, and what was left
    requests: int  # how often the request was sent

    def __str__(self) -> str:
        return f"{self.what} ({self.requests})"


def run_case(
    trouble: Trouble, request: Request, folder: Path, store: StoreSettings, ca: CertificateAuthority | None = None
) -> Outcome:
    """One cell of the matrix. AssertionError where a promise was broken."""
    bench = Bench(folder, store, ca)
    try:
        with messages() as said:
            bench.prepare(request)
            bench.proxy.reset()
            with trouble.strikes(bench.proxy, request) as rule:
                try:
                    what = getattr(bench, request.operation)(request)
                except S3BlobStorageError as error:
                    assert not isinstance(error, POSKeyError), f"a fault was taken for a missing blob: {error!r}"
                    transaction.abort()
                    what = type(error).__name__
                if bench.db is not None:
                    bench.db.storage.uploads.settle()  # what an abort takes back meets the fault as well
            assert rule.hits, "the request did not meet the fault: the case shows nothing"
            times = sum(
                request.method == exchange.method and request.target in exchange.line
                for exchange in bench.proxy.exchanges
            )
            left = bench.check(said)
        return Outcome(what + left, times)
    finally:
        bench.close()


def title(trouble: Trouble, request: Request) -> str:
    return f"{request.name}: {trouble.name}"


# The document


def rendered(outcomes: dict[tuple[str, str], Outcome]) -> str:
    """``outcomes`` by names of trouble and request."""
    lines = []
    for operation, requests in REQUESTS.items():
        lines += [f"### {operation}", "", "| Fault | " + " | ".join(request.name for request in requests) + " |"]
        lines += ["|---" * (len(requests) + 1) + "|"]
        for trouble in TROUBLES:
            cells = [str(outcomes.get((trouble.name, request.name), "–")) for request in requests]
            if set(cells) != {"–"}:
                lines.append(f"| {trouble.name} | " + " | ".join(cells) + " |")
        lines.append("")
    counts = Counter(outcome.what for outcome in outcomes.values())
    summary = ", ".join(f"{what} {count}" for what, count in sorted(counts.items(), key=lambda item: (-item[1], item)))
    lines += [f"{len(outcomes)} cases: {summary}.", ""]
    return "\n".join(lines)


def documented() -> dict[tuple[str, str], str]:
    """What docs/faults.md says, by names of trouble and request, without the counts."""
    text = DOCUMENT.read_text(encoding="utf-8")
    text = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    found: dict[tuple[str, str], str] = {}
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else []
        if cells and cells[0] == "Fault":
            names = cells[1:]
        elif cells:
            for name, cell in zip(names, cells[1:], strict=True):
                if cell != "–":
                    found[cells[0], name] = re.sub(r" \(\d+\)$", "", cell)
    return found


def write(table: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    DOCUMENT.write_text(head + BEGIN + "\n" + table + END + rest.split(END)[1], encoding="utf-8")


def run_all(
    cases: list[tuple[Trouble, Request]], store: StoreSettings, progress: Callable[[str], None]
) -> tuple[dict[tuple[str, str], Outcome], int]:
    """The outcomes, and how many cases broke a promise."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    broken = 0
    for trouble, request in cases:
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                outcome = outcomes[trouble.name, request.name] = run_case(trouble, request, Path(folder), store)
            progress(f"{title(trouble, request)}: {outcome} in {time.monotonic() - started:.1f} s")
        except Exception:
            broken += 1
            progress(f"{title(trouble, request)}: BROKEN\n{traceback.format_exc()}")
    return outcomes, broken


def main() -> None:
    from fixtures_servers import s3_client
    from servers.ministack import MiniStack

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/faults.md")
    parser.add_argument("--only", default="", help="the cases whose title contains this; not with --write")
    arguments = parser.parse_args()
    if arguments.only and arguments.write:
        parser.error("--write writes all cases")
    cases = [case for case in CASES if arguments.only in title(*case)]
    with tempfile.TemporaryDirectory() as folder:
        server = MiniStack(Path(folder) / "ministack").start()
        try:
            s3_client(server).create_bucket(Bucket="faults")
            keys = {"access_key": server.access_key, "secret_key": server.secret_key}
            store = StoreSettings(bucket="faults", endpoint_url=server.endpoint_url, region=server.region, **keys)
            outcomes, broken = run_all(cases, store, lambda line: print(line, file=sys.stderr, flush=True))
        finally:
            server.stop()
    print(rendered(outcomes))
    if broken:
        sys.exit(f"{broken} cases broke a promise")
    if arguments.write:
        write(rendered(outcomes))


if __name__ == "__main__":
    main()
