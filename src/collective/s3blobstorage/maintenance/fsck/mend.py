"""Bringing back what is missing or wrong, from where the same bytes are: ``s3blobs fsck --repair``.

The machine's cache, the sources, older versions of the same key, in this order. Nothing is put into the bucket before
it is whole on the local disk and proven; a wrong object is replaced only while it is the one that was found wrong.

A shared object that is missing is brought back as a writer begins to share one (``storage/sharing.py``): references
first, then a look for the mark that it was given up. Where there is one its name is never begun again, and each
revision gets an object of its own, which readers find too. Only bytes of the SHA-256 in its name are put there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ...cache.interfaces import IBlobCache
from ...encryption.envelope import key_name
from ...errors import (
    BlobMissing,
    Corrupt,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    StagingError,
    StoreError,
    Unavailable,
)
from ...keys import read_object_key, read_shared_name, reference_key
from ...objectstore.connection import recorded_sha256, recorded_size
from ...objectstore.content import sha256_of
from ...objectstore.download import write_whole
from ...objectstore.interfaces import IObjectStore, ObjectInfo
from ...objectstore.upload import opened
from ...overlay.interfaces import IOverlay, Revision
from ...storage.sharing import Reference, announce, carry_out
from ..kept import KeptRevision
from .finding import DAMAGED, MISSING, NO_REFERENCE, WRONG_BYTES, WRONG_ENCRYPTION, WRONG_METADATA, Finding
from .look import digest_of

REPAIRED, WOULD, NOT, CHANGED = "repaired", "would be repaired", "not repaired", "changed meanwhile"

# By what the bytes were proven: their SHA-256, only their size, or only that they are of the same revision.
BY_SHA256, BY_SIZE, BY_REVISION = "sha256", "size", "revision"

ANOTHER = "the object is another one by now: run it again"

_BLOCK = 1024 * 1024
_NOWHERE = (
    "neither this machine's cache, nor a source, nor an older version has it: bring a backup or a replica of the bucket"
    " in as <s3source>, or a blob directory as <blobdirsource>, and run it again"
)
_BY_HAND = {DAMAGED: "restore the database, or this record of it, from a backup"}
_NOT_DAMAGED = "it is not damaged: see what is said of it"


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a finding. ``origin``: cache, a source's name, ``version ID``, or ``object`` for its own bytes;
    ``proof``: see above. Both "" where nothing was brought."""

    what: str
    origin: str = ""
    proof: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the bytes must have, None where nobody knows: by the record, else by the object's own metadata.
    ``intact``: the object's own bytes may be right, and can be read by who does not refuse them."""

    size: int | None
    sha256: bytes | None
    intact: bool = False


@dataclass(frozen=True, slots=True)
class _Origin:
    """``fetch(file)`` writes the bytes, and returns whether it compared them with a SHA-256 that it knows. ``known``:
    that they are whole is known otherwise, where neither size nor SHA-256 is."""

    name: str
    fetch: Callable[[BinaryIO], bool]
    known: bool = True


class _Nothing:
    """An ``IBlobSource`` that has nothing: the cache is asked for what it has, and not to fetch."""

    described = None

    def __init__(self, oid: bytes, tid: bytes) -> None:
        self._revision = oid, tid

    def describe(self) -> Any:
        raise BlobMissing(*self._revision)

    def download(self, file: BinaryIO) -> None:
        raise BlobMissing(*self._revision)

    def read(self, start: int, length: int, write: Any, validator: str | None) -> str:
        raise BlobMissing(*self._revision)


@dataclass(frozen=True)
class Mender:
    """``check``: raises where the lease is lost, before each change. ``moved(bytes)``: what came. ``dry_run``: bring it
    here and prove it, and change nothing. Any thread may mend, each another finding."""

    store: IObjectStore
    overlay: IOverlay
    cache: IBlobCache
    check: Callable[[], None]
    moved: Callable[[int], None] = lambda count: None
    dry_run: bool = False

    def mend(self, findings: list[Finding]) -> Mended:
        """Those of one object: the first is to be mended, which is right for the others too. Raises Unavailable where
        the bucket is out, and what ``check`` raises."""
        finding = findings[0]
        if finding.kind == NO_REFERENCE:
            return self._refer(findings)
        if finding.kind in _BY_HAND:
            return Mended(NOT, detail=_BY_HAND[finding.kind])
        if finding.kind == WRONG_ENCRYPTION and not finding.etag:  # what answers no HEAD cannot be replaced safely
            return Mended(NOT, detail=_NOT_DAMAGED)
        wanted = self._wanted(finding)
        passed = []
        for origin in self._origins(findings, wanted):
            try:
                mended = self._bring(findings, wanted, origin)
            except (ObjectMissing, FileNotFoundError):
                continue
            except (Refused, EncryptionNotHonoured) as error:
                return Mended(NOT, detail=f"the store does not take it: {error}")
            except PreconditionFailed:
                return Mended(CHANGED, detail=ANOTHER)
            except Corrupt as error:
                passed.append(f"{origin.name}: {error}")
                continue
            except (OSError, StagingError) as error:
                return Mended(NOT, detail=f"staging-dir takes no file: {error}; make room there, and run it again")
            except _NotHad as error:
                passed.append(f"{origin.name}: {error}")
                continue
            return mended
        said = [_NOT_DAMAGED] if finding.kind == WRONG_ENCRYPTION else []
        return Mended(NOT, detail="; ".join([*said, _NOWHERE, *passed]))

    def _wanted(self, finding: Finding) -> _Wanted:
        revision = finding.revision
        size, sha256 = revision.size, digest_of(finding.key) or revision.sha256
        if finding.kind == WRONG_ENCRYPTION:
            size = finding.object_size if size is None else size
            try:
                stored = self.store.stored(finding.key)
            except (Corrupt, Refused, EncryptionNotHonoured):  # another one by now
                return _Wanted(size, sha256, intact=True)
            if stored is None or key_name(stored.info.metadata) is not None:
                return _Wanted(size, sha256)  # its metadata are hidden with the key that is not there
            if sha256 is None and _is_of(finding, stored.info):
                sha256 = recorded_sha256(stored.info.metadata)
            return _Wanted(size, sha256, intact=True)
        if sha256 is None and finding.etag and finding.kind != WRONG_METADATA:
            try:
                info = self.store.head(finding.key)
            except (Corrupt, Refused, EncryptionNotHonoured):
                info = None
            told = recorded_size(info.metadata) if info is not None else None
            if info is not None and size in (None, told) and _is_of(finding, info):
                size, sha256 = told, recorded_sha256(info.metadata)
        return _Wanted(size, sha256)

    # Where it may be

    def _origins(self, findings: list[Finding], wanted: _Wanted) -> Iterator[_Origin]:
        finding = findings[0]
        if finding.kind == WRONG_METADATA and wanted.sha256 is not None:  # else it may be another blob's, as it says
            yield _Origin("object", lambda file: self._own(finding, wanted, file), known=False)
        # Of a shared object any of its blobs may be somewhere.
        revisions = [each.revision for each in findings] if digest_of(finding.key) else [finding.revision]
        for revision in revisions:
            yield from self._of_revision(Revision(revision.oid, revision.tid, revision.state))
        yield from self._versions(finding, wanted)

    def _of_revision(self, sought: Revision) -> Iterator[_Origin]:
        oid, tid = sought.oid, sought.tid
        if self.cache.get_text(oid, tid) is not None:
            yield _Origin("cache", lambda file: self._cached(oid, tid, file), known=False)
        try:
            name = self.overlay.which(sought)
        except StoreError as error:
            name = f"a source ({error})"
        if name is not None:
            yield _Origin(name, lambda file: self._from_source(sought, file))

    def _own(self, finding: Finding, wanted: _Wanted, file: BinaryIO) -> bool:
        try:
            self.store.get_file(finding.key, file, size=wanted.size, sha256=wanted.sha256)
        except (Refused, EncryptionNotHonoured) as error:
            raise _NotHad(str(error)) from error
        return True

    def _cached(self, oid: bytes, tid: bytes, file: BinaryIO) -> bool:
        path = self.cache.path(oid, tid, lambda: _Nothing(oid, tid))  # type: ignore[arg-type, return-value]
        with open(path, "rb") as cached:  # `path` keeps it there, where the cache is encrypted
            while block := cached.read(_BLOCK):
                write_whole(file, block)
        return False

    def _from_source(self, revision: Revision, file: BinaryIO) -> bool:
        try:
            self.overlay.fetch(revision, file)
        except (Unavailable, Refused) as error:
            raise _NotHad(str(error)) from error
        return revision.state.sha256 is not None

    def _versions(self, finding: Finding, wanted: _Wanted) -> Iterator[_Origin]:
        """The newest first. Of what readers get it is known already that it is wrong."""
        key = finding.key
        try:
            for version in self.store.list_versions(key):
                if version.key != key:
                    return
                if version.is_marker or (version.is_latest and finding.kind != MISSING):
                    continue
                yield _Origin(
                    f"version {version.version}",
                    lambda file, version=version.version: self._version(  # type: ignore[misc]
                        finding, version, wanted, file
                    ),
                )
        except Refused as error:
            yield _Origin("older versions", _refusing(f"they may not be listed (s3:ListBucketVersions): {error}"))

    def _version(self, finding: Finding, version: str, wanted: _Wanted, file: BinaryIO) -> bool:
        try:
            info = self.store.get_file(finding.key, file, size=wanted.size, sha256=wanted.sha256, version=version)
        except (Refused, EncryptionNotHonoured) as error:
            raise _NotHad(str(error)) from error
        if wanted.sha256 is None and not _is_of(finding, info):
            raise Corrupt("its metadata say that it is of another blob")
        # Its metadata were written with it: they tell whether it is whole where the record does not.
        if wanted.size is None and recorded_size(info.metadata) != info.size:
            raise Corrupt("nobody knows how many bytes it should have")
        return wanted.sha256 is not None or recorded_sha256(info.metadata) is not None

    # From there into the bucket

    def _bring(self, findings: list[Finding], wanted: _Wanted, origin: _Origin) -> Mended:
        finding = findings[0]
        revision = finding.revision
        folder = self.cache.staging()
        path = folder / f"fsck-{revision.oid.hex()}-{revision.object_name}"
        compared: list[bool] = []

        def fetch(file: BinaryIO) -> None:
            compared[:] = [origin.fetch(file)]

        try:
            received = self.cache.receive(path, revision.oid, fetch, self.moved)
            with opened(received.content) as content:
                size, sha256 = content.size, sha256_of(content.plain_blocks())
            if wanted.size not in (None, size) or wanted.sha256 not in (None, sha256):
                raise Corrupt("it has other bytes there")
            proof = BY_SHA256 if wanted.sha256 is not None or compared[0] else BY_SIZE
            if proof == BY_SIZE and wanted.size is None:
                if not origin.known:
                    raise Corrupt("nobody knows how many bytes it should have")
                proof = BY_REVISION
            if (wanted.intact or finding.kind in (WRONG_BYTES, WRONG_METADATA)) and proof != BY_SHA256:
                raise Corrupt("nothing proves that its bytes are the right ones")
            if self.dry_run:
                return Mended(WOULD, origin.name, proof)
            self.cache.make_room(path, folder, staged=True)
            self.check()
            self._put(findings, received.content, sha256)
            return Mended(REPAIRED, origin.name, proof)
        finally:
            path.unlink(missing_ok=True)

    def _put(self, findings: list[Finding], content: Any, sha256: bytes) -> None:
        finding, put = findings[0], self.store.put_file
        shared = read_object_key(finding.key)
        if shared is None:
            metadata = _metadata(finding.revision)
            if finding.kind == MISSING:
                put(finding.key, content, metadata=metadata, sha256=sha256, if_absent=True)
            else:
                put(finding.key, content, metadata=metadata, sha256=sha256, if_match=finding.etag)
        elif finding.kind != MISSING:
            put(finding.key, content, metadata={}, sha256=sha256, if_match=finding.etag)
        elif self._referred(findings, shared):
            put(finding.key, content, metadata={}, sha256=sha256, if_absent=True, shared=True)
        else:
            for revision in _distinct(findings):
                try:
                    put(revision.key, content, metadata=_metadata(revision), sha256=sha256, if_absent=True)
                except PreconditionFailed:
                    continue  # it has one, where readers find it

    def _referred(self, findings: list[Finding], shared: str) -> bool:
        """Put the references of these revisions, and look whether the object may be begun, as a writer does."""
        references = [
            Reference(reference_key(revision.oid, revision.object_name, shared), revision.oid)
            for revision in _distinct(findings)
        ]
        sha256, generation = read_shared_name(shared)
        return generation not in carry_out(announce(references, sha256), self.store)

    def _refer(self, findings: list[Finding]) -> Mended:
        """Of revisions whose shared object is there. One that was given up is nobody's to rely on: a delete of it may
        still be under way. So they get an object of their own too."""
        if self.dry_run:
            return Mended(WOULD)
        self.check()
        key = findings[0].key
        shared = read_object_key(key)
        assert shared is not None
        try:
            if not self._referred(findings, shared):
                for revision in _distinct(findings):
                    if self.store.head(revision.key) is None:
                        self.store.copy(key, revision.key)
        except ObjectMissing:
            return Mended(CHANGED, detail=ANOTHER)
        except Refused as error:
            return Mended(NOT, detail=f"the store does not take it: {error}")
        return Mended(REPAIRED)


def _metadata(revision: KeptRevision) -> dict[str, str]:
    return {"oid": revision.oid.hex(), "tid": revision.tid.hex()}


def _distinct(findings: list[Finding]) -> list[KeptRevision]:
    """Of those with one name, as an undo makes them, one."""
    return list({finding.revision.key: finding.revision for finding in findings}.values())


def _is_of(finding: Finding, info: ObjectInfo) -> bool:
    """Whether the metadata do not say that it is of another blob: then their size and SHA-256 are that one's."""
    return info.metadata.get("oid") in (None, finding.revision.oid.hex())


class _NotHad(Exception):
    """An origin could not tell, or refused. Never leaves this module."""


def _refusing(why: str) -> Callable[[BinaryIO], bool]:
    def fetch(file: BinaryIO) -> bool:
        raise _NotHad(why)

    return fetch
