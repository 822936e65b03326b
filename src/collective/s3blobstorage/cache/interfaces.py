"""The contract of the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from zope.interface import Attribute, Interface

from .staged import Staged


class IBlobSource(Interface):
    """Where one revision's bytes come from: the bucket, through the storage. Any thread; makes no request when made.

    Every method raises the errors of ``errors.StoreError``'s branch; the cache passes them on to all who wait.
    """

    described = Attribute("(size in bytes, SHA-256 or None) where they are known without a request, else None")

    def describe() -> tuple[int, bytes | None]:
        """Size in bytes and SHA-256 (None: not known) of the whole. A request only where the record does not say."""

    def download(file: BinaryIO) -> None:
        """Write the whole, checked, to an empty file: what ``IBlobCache.fetch`` calls. One request."""

    def read(start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        """Pass that range to ``write`` in order, in one request, and return the validator of the version it came from.

        ``validator``, where not None, is what an earlier call returned, in this process or in another one: the bytes
        are of the same version of the object, or PreconditionFailed is raised. Of at most 449 bytes; empty where the
        store has no versions. What ``write`` raises goes through and ends the request: whoever called needs no more of
        it. It keeps nothing of what it is given. A part is used as soon as its last byte was passed on, long before a
        longer range ends: so with a ``validator`` no byte of another version is ever passed on.
        """


class IBlobCache(Interface):
    """Complete, checked, read-only files by oid and tid.

    Any thread of any process of the machine may call any method at any time. No method ever raises because of the
    cache's own disk (full, read-only, gone, somebody deleted the folder): a read degrades to an uncached one. Only
    where the machine's temporary folder takes no file either, Unavailable is raised. What the ``download`` callable
    raises goes through unchanged, to every waiting caller of the process.

    Guarded: a crash of process or machine leaves no incomplete file under its name; a file that was cut, or written to,
    after it was published is noticed by its size and time and fetched again. Not guarded: bytes that rot on the
    disk, and a program that changes a file and sets its time back.
    """

    counters = Attribute("counters.Counters: what was done in this process since it was opened; saved in its folder")

    seals = Attribute(
        "bool: the files are encrypted (``cache-encrypt``). Then the paths that are handed out are of files that only"
        " ``open_lazily``, ``path`` and the cache itself can read"
    )

    found = Attribute("found.Found: which objects were seen in the bucket, by their keys")

    def expected(oid: bytes, tid: bytes) -> str:
        """Where the complete file of that revision is while the cache has it. No system call."""

    def get(oid: bytes, tid: bytes) -> Path | None:
        """The complete file of that revision, or None. One system call; a second, at most once per file and minute,
        notes that it was used.

        The file stays for at least ``protect`` seconds (300) from now; whoever opens it later must expect that it is
        gone.
        """

    def get_text(oid: bytes, tid: bytes) -> str | None:
        """The same as text: a Path costs as much as all the rest of a hit."""

    def fetch(oid: bytes, tid: bytes, download: Callable[[BinaryIO], None]) -> Path:
        """The file of that revision; where it is not here yet, what ``download(file)`` writes becomes it.

        ``download`` is called at most once per revision and machine at a time: threads of this process wait for a
        future, other processes for a file lock. It writes to a temporary file and raises unless every byte is there
        and was checked; only after it returned is the file synced, made read-only and renamed into its place. Where it
        raises, nothing is left. Where the cache's disk cannot take the file, the bytes go to a private temporary
        file elsewhere, which lives at least as long as a file that was just handed out (less only where the disk
        elsewhere is full too). ``download`` may then be called a second time, after a first call whose file was
        refused.

        The object given to ``download`` has ``write``, ``seek``, ``tell``, ``truncate`` and ``flush``, and no
        ``fileno``. Its ``write`` raises an error that is no OSError where the cache's disk fails: let it through, do
        not try again.
        """

    def open(
        oid: bytes,
        tid: bytes,
        download: Callable[[BinaryIO], None],
        opener: Callable[[str], Any] = ...,
        *,
        looked: bool = False,
    ) -> Any:
        """The same, opened: what ``opener(path)`` returns, by default an unbuffered binary file for reading.

        ``looked``: the caller has just asked ``get``, which had no file.

        An eviction between ``fetch`` and ``opener`` (it raises FileNotFoundError) is met by fetching again, a file that
        cannot be opened by a private one. An opened file may be evicted: it stays readable until it is closed.
        """

    def complete(oid: bytes, tid: bytes, source: IBlobSource) -> Path:
        """The file of that revision, as ``fetch``: a blob above ``part-threshold`` by parts, using those that are here
        already; a few requests in parallel, each for adjacent missing ones."""

    def path(oid: bytes, tid: bytes, source: Callable[[], IBlobSource]) -> str:
        """The path of a complete file with the blob's bytes as they are; ``source`` is called where it is not here.

        The cache's own file, as ``complete``. Where the cache is encrypted, a decrypted one (mode 0400) in this
        process's folder: it is removed when nobody has this very object any more, and after a crash by the next process
        that cleans. All who ask meanwhile get the same. A damaged file is fetched anew.
        """

    def keep(path: str) -> None:
        """What ``path`` returned is passed on as text: keep the file for ``protect`` seconds, where it is decrypted."""

    def open_lazily(
        oid: bytes,
        tid: bytes,
        source: IBlobSource,
        *,
        name: os.PathLike[str],
        blob: Any = None,
        looked: bool = False,
    ) -> Any:
        """A binary file open for reading, that makes no request before somebody needs a byte.

        Buffered, readable, seekable, iterable, closable, weak-referenceable; ``tell``, ``seek`` and the size (``seek``
        to the end) ask the source for nothing but ``describe``. A blob of at most ``part-threshold`` bytes is fetched
        whole at the first byte. A larger one is read by parts of ``part-size`` into a sparse file beside a map of the
        parts that are there; reading on sequentially fetches ahead, in a bounded window, by requests for ever more
        parts; a read that spans several parts fetches them in parallel. One download per part and machine at a time;
        readers that wait get their bytes as each part arrives. When all parts are here the SHA-256 is checked and the
        file becomes an ordinary one.

        ``name`` is the file's ``name``: using it as a path completes the file. ``fileno()`` completes it too. ``blob``:
        ``blob.closed(file)`` is called when it is closed, as ``ZODB.blob.BlobFile`` does. ``looked``: the caller has
        just been told by ``get`` that the complete file is not there.

        For use by one thread at a time, as any file. Reading raises what the source raises, and Corrupt where the whole
        does not have its SHA-256. A disk that does not take parts degrades to reading through memory.
        """

    def adopts(size: int) -> bool:
        """Whether ``adopt`` would take a file of that size, in bytes (``fill_on_commit``)."""

    def prepare(staged: str | Path, size: int) -> bool:
        """Make a staged file of so many bytes read-only and stamp its size, ahead of ``adopt``, so that a commit has
        less to do in its end. In any thread; from then on nobody writes to it. Never raises: False where the disk does
        not do it."""

    def adopt(oid: bytes, tid: bytes, staged: str | Path, *, prepared: bool = False) -> bool:
        """Take a file that was just committed: moved (or copied) into its place, made read-only unless ``prepared``.

        Called in ``tpc_finish``: makes no request, never raises. An encrypted cache takes what ``stage`` made. False
        where it was not taken (``fill_on_commit`` leaves it out, or the disk does not take it); the caller then deletes
        it, if it is there. Syncs the file, and copies it where it lies on another file system. It may be evicted until
        it is handed out by ``get``.
        """

    def staging(*, elsewhere: bool = False, known: bool = False) -> Path:
        """The folder, mode 0700, where this process stages files that are being committed. Swept after a crash.

        ``elsewhere``: one in the machine's temporary folder, for a caller whose file the first one refused. That one is
        also given where the first cannot be made. Ask each time, do not keep the path: somebody may delete the folder,
        and a forked child has its own. ``known``: the one that this process was given last, without a look: for a
        caller who asks once more, without it, where that one is not there.
        """

    def uncommitted() -> Path:
        """The folder where ZODB writes a blob before it is committed: ``staging()``, but while that disk has less free
        than ``cache-min-free``, and that of the machine's temporary folder has more, ``staging(elsewhere=True)``. ZODB
        writes there by itself, so nobody can turn to the other folder when the first one is full. In any thread.
        """

    def stage(source: Path, target: Path, oid: bytes) -> Staged:
        """Copy the file ``source`` to the new file ``target`` in a staging folder, encrypted where the cache is, and
        remove it. In any thread. OSError where the disk does not do it; ``source`` is then as it was."""

    def receive(
        target: Path, oid: bytes, download: Callable[[BinaryIO], None], written: Callable[[int], None] = ...
    ) -> Staged:
        """The same with what ``download(file)`` writes, as of ``fetch``. Raises what that raises, and OSError.

        ``written(bytes)`` is called after each write.
        """

    def make_room(path: str | Path, folder: Path, *, staged: bool = False) -> int:
        """Before the file ``path`` becomes a staged file in ``folder``: may this commit take that much of the disk?
        ``staged``: it is one already. Its size in bytes.

        With ``limit_commits``: what all processes stage and download, this file included, is at most the bound, and all
        files together, those handed out lately too, are at most twice the bound; else StagingError names the setting.
        Always: a floor of free bytes stays on the folder's disk (``room.commit_floor``); what may go is evicted for it,
        in the calling thread. OSError where that is not enough, or the disk does not answer.
        """

    def clean() -> None:
        """Sweep what dead processes of all stores left, and enforce bound and floor now, in the calling thread."""

    def close() -> None:
        """Join the cleaner's thread, release locks, remove this process's temporary files. Idempotent.

        Afterwards only ``get`` still works; a ``fetch`` that finds no file raises Unavailable.
        """
