"""Is the store what the configuration says, and what can it do? Asked before it is used, and by ``s3blobs check``.

Four requests at open: HEAD of the bucket; a PUT that carries everything at once which stores treat differently (a
condition, a checksum header, the encryption); the same PUT again, which the condition must refuse; DELETE. A store that
refuses the first PUT as a whole is asked for each of the three by itself, which costs up to four more.

Everything is written under ``{prefix/}.s3blobs-check/{uuid}`` and deleted in the end, also where a check fails or the
caller stops asking. What a killed process leaves there is gc's to delete.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from collective.s3blobstorage.errors import (
    ConfigurationError,
    EncryptionNotHonoured,
    S3BlobStorageError,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore import client, diagnosis, modes
from collective.s3blobstorage.objectstore.bucket import create_bucket
from collective.s3blobstorage.objectstore.connection import plain_md5
from collective.s3blobstorage.objectstore.diagnosis import Trouble
from collective.s3blobstorage.objectstore.probe import Answer, ask
from collective.s3blobstorage.objectstore.scratch import BODY_MD5, FOLDER, Scratch
from collective.s3blobstorage.objectstore.store import S3ObjectStore
from collective.s3blobstorage.objectstore.thorough import DEEPER, deeper

__all__ = ["AT_OPEN", "DEEPER", "FOLDER", "LAST_BEFORE_WRITING", "Finding", "checks", "run"]

log = logging.getLogger(__name__)

AT_OPEN = (
    "endpoint",
    "tls",
    "clock",
    "credentials",
    "bucket",
    "region",
    "addressing",
    "write",
    "encryption",
    "checksums",
    "conditional writes",
)

LAST_BEFORE_WRITING = "addressing"

# In the error of a wrong region: `expecting 'eu-central-1'` (AWS, Garage and others word it alike).
_EXPECTED_REGION = re.compile(r"expect(?:ing|ed)[^']*'(?:[^'/]*/[^'/]*/)?([a-z0-9-]+)[/']")


@dataclass(frozen=True)
class Finding:
    """What one check found. ``ok`` None: it does not apply here, or could not be tried; ``detail`` says why.

    ``seconds`` is how long it took; ``mend`` names the setting to change, "" where there is nothing to mend.
    """

    name: str
    ok: bool | None
    seconds: float
    detail: str
    mend: str


def _nothing_forbids() -> str:
    return ""


def checks(
    store: S3ObjectStore, *, writable: bool, thorough: bool, forbidden: Callable[[], str] = _nothing_forbids
) -> Iterator[Finding]:
    """Every finding in a fixed order: ``AT_OPEN``, then, where ``thorough``, ``DEEPER``.

    Raises nothing of the store's; a failure is a finding with ``ok`` False. What a failure makes pointless is there
    too, with ``ok`` None. Corrects the store by what was measured: its region and addressing style where the server
    tells them, ``conditional_put``, ``provider``. Runs in the caller's thread, before other threads use the store.

    ``forbidden`` is called once, after ``LAST_BEFORE_WRITING`` was handed out and before anything is written: why
    nothing may be, or "". What needs writing is then not tried.
    """
    with closing(run(store, writable=writable, thorough=thorough, forbidden=forbidden)) as results:
        for finding, _ in results:
            yield finding


def run(
    store: S3ObjectStore, *, writable: bool, thorough: bool, forbidden: Callable[[], str] = _nothing_forbids
) -> Generator[tuple[Finding, S3BlobStorageError | None], None, None]:
    """As ``checks``, each with the error that forbids to use the store. A finding that is only a warning has none."""
    checking = _Checking(store, writable=writable and not store.read_only, thorough=thorough, forbidden=forbidden)
    coming = list(AT_OPEN + (DEEPER if thorough else ()))
    failed = ""
    try:
        for result in checking.results():
            failed = failed or (result.name if result.error is not None else "")
            while coming[0] != result.name:
                yield _untried(coming.pop(0), failed), None
            coming.pop(0)
            yield result.finding, result.error
    finally:
        checking.scratch.clear()
    for name in coming:
        yield _untried(name, failed), None


def measure_conditions(store: S3ObjectStore) -> None:
    """Find out whether the store keeps ``If-None-Match: *``, as the preflight does: ``store.conditional_put`` is true
    only where it was seen to. Two requests and a DELETE. Raises Unavailable where that cannot be told now."""
    scratch = Scratch(store, uuid.uuid4().hex)
    try:
        first = scratch.put(conditional=True)
        again = scratch.put(conditional=True) if first.ok else first
        if again.transient:
            raise Unavailable("The object store does not say now whether it keeps If-None-Match (dedup).")
        store.measured(conditional_writes=first.ok and again.status in (409, 412))
    finally:
        scratch.clear()


def _untried(name: str, failed: str) -> Finding:
    return Finding(name, None, 0.0, f"not tried, since {failed} failed" if failed else "not tried", "")


@dataclass(frozen=True)
class _Result:
    finding: Finding
    error: S3BlobStorageError | None = None

    @property
    def name(self) -> str:
        return self.finding.name


class _Stop(Exception):
    """Nothing after this can be tried. Internal."""


class _Checking:
    """One run. Belongs to one thread."""

    def __init__(self, store: S3ObjectStore, *, writable: bool, thorough: bool, forbidden: Callable[[], str]) -> None:
        self.store = store
        self.writable = writable
        self.thorough = thorough
        self.forbidden = forbidden
        self.scratch = Scratch(store, uuid.uuid4().hex)
        self._since = time.monotonic()

    def results(self) -> Iterator[_Result]:
        try:
            yield from self._reached()
            why = self.forbidden() if self.writable else "not tried: opened for reading only (read-only)"
            self._since = time.monotonic()  # what the caller asked meanwhile took its own time
            trouble = self._keys()
            if trouble is not None:
                yield self._bad(trouble)
                return
            if why:
                self.writable = False
                for name in AT_OPEN[AT_OPEN.index(LAST_BEFORE_WRITING) + 1 :]:
                    yield self._none(name, why)
            else:
                why = "not tried, since write failed"
                for result in self._written():
                    self.writable = self.writable and result.error is None
                    yield result
            if self.thorough:
                for name, ok, detail, mend in deeper(self.store, self.scratch, self.writable, why):
                    yield _Result(Finding(name, ok, self._took(), detail, mend))
        except _Stop:
            return

    # results

    def _took(self) -> float:
        """Seconds since the result before."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        return took

    def _good(self, name: str, detail: str) -> _Result:
        return _Result(Finding(name, True, self._took(), detail, ""))

    def _none(self, name: str, detail: str) -> _Result:
        return _Result(Finding(name, None, self._took(), detail, ""))

    def _warning(self, name: str, detail: str, mend: str) -> _Result:
        log.warning("preflight, %s: %s; %s", name, detail, mend)
        return _Result(Finding(name, False, self._took(), detail, mend))

    def _bad(self, trouble: Trouble) -> _Result:
        return _Result(Finding(trouble.check, False, self._took(), trouble.detail, trouble.mend), trouble.error())

    # the bucket

    def _reached(self) -> Iterator[_Result]:
        settings = self.store.settings
        answer = self._bucket()
        if not answer.ok and answer.status == 404 and self._may_create(answer):
            if self.thorough:
                yield self._good("endpoint", self._where())
                detail = f"there is no bucket {settings.bucket!r}; create-bucket is on, so the first start makes it"
                yield self._none("bucket", detail)
                raise _Stop
            try:
                create_bucket(self.store.connection)
            except ConfigurationError as error:
                detail, _, mend = str(error).partition("; ")
                yield _Result(Finding("bucket", False, self._took(), detail, mend or detail), error)
                raise _Stop from None
            except StoreError as error:
                mend = "s3-endpoint-url: start the store, or let create-bucket off and make it by hand"
                yield _Result(Finding("bucket", False, self._took(), str(error), mend), error)
                raise _Stop from None
            answer = self._bucket()
        if not answer.ok:
            yield from self._not_reached(answer)
            raise _Stop
        yield self._good("endpoint", self._where())
        yield self._tls()
        yield self._clock(answer)
        yield self._good("credentials", "the object store accepts them")
        found = self._found()
        yield found
        if found.error is not None:
            raise _Stop
        yield self._region(answer)
        yield self._addressing()

    def _found(self) -> _Result:
        """The bucket is there. Whether it can keep what is to be kept is asked only where something is."""
        settings = self.store.settings
        there = f"{settings.bucket!r} is there"
        if settings.retention is None or not self.writable:
            return self._good("bucket", there)
        try:
            locks = self.store.locks_objects()
        except StoreError as error:
            mend = "start the store or wait; s3-endpoint-url says which it is"
            return self._bad(Trouble("bucket", str(error), mend, transient=isinstance(error, Unavailable)))
        if locks is False:
            return self._bad(diagnosis.no_object_lock(settings))
        if locks is None:
            return self._good("bucket", f"{there}; whether it has Object Lock these credentials may not ask")
        return self._good("bucket", f"{there}, with Object Lock")

    def _bucket(self) -> Answer:
        """HEAD of the bucket. Where it fails without saying why, as HEAD does, a listing of one key tells."""
        connection = self.store.connection
        answer = ask(connection.reader.head_bucket, **connection.bucket())
        if answer.kind == "EndpointConnectionError" and self._in_host():
            # The bucket's own host name may not exist where the endpoint's does.
            style = self.store.settings.addressing_style
            self.store.reconnect(addressing_style="path")
            connection = self.store.connection
            in_path = ask(connection.reader.head_bucket, **connection.bucket())
            if in_path.status == 0 and not in_path.ok:  # it is the store that is not there
                self.store.reconnect(addressing_style=style)
                return answer
            answer = in_path
        if answer.ok or answer.status == 0 or answer.transient:
            return answer
        reason = ask(
            connection.reader.list_objects_v2, **connection.bucket(), MaxKeys=1, Prefix=connection.full_key("")
        )
        if reason.ok:
            # A policy may allow the listing of the prefix alone, which HEAD of the bucket does not ask for.
            return reason
        region = _told_region(answer) or _told_region(reason)
        if region and region != connection.reader.meta.region_name and _is_about_region(answer, reason):
            self._correct_region(region)
            connection = self.store.connection
            return ask(connection.reader.head_bucket, **connection.bucket())
        return reason

    def _may_create(self, answer: Answer) -> bool:
        return self.store.settings.create_bucket and self.writable and answer.code == "NoSuchBucket"

    def _not_reached(self, answer: Answer) -> Iterator[_Result]:
        trouble = diagnosis.of_first_request(answer, self.store.settings, self.store.endpoint_url)
        settings = self.store.settings
        log.log(
            logging.WARNING if trouble.transient else logging.ERROR,
            "preflight, %s: bucket %r at %s: %s",
            trouble.check,
            settings.bucket,
            self.store.endpoint_url,
            answer.failure.detail if answer.failure else "",
        )
        if answer.status and trouble.check != "endpoint":  # it answered: what comes before the trouble is well
            yield self._good("endpoint", self._where())
            yield self._tls()
            if trouble.check != "clock":
                yield self._clock(answer)
            if trouble.check == "bucket":
                yield self._good("credentials", "the object store knows them")
        yield self._bad(trouble)

    def _where(self) -> str:
        return f"{self.store.endpoint_url} answers"

    def _tls(self) -> _Result:
        if self.store.endpoint_url.startswith("https://"):
            bundle = client.authorities(self.store.settings)
            return self._good("tls", "trusted by boto3's authorities" if bundle is True else f"trusted by {bundle}")
        return self._none("tls", "not used: s3-endpoint-url is http, so the data can be read on the way")

    def _clock(self, answer: Answer) -> _Result:
        if answer.ahead is None:
            return self._none("clock", "the answers have no Date")
        off = abs(answer.ahead)
        trouble = diagnosis.clock(answer.ahead)
        if off >= diagnosis.CLOCK_REFUSED:
            return self._bad(trouble)
        if off >= diagnosis.CLOCK_DOUBTFUL:
            return self._warning("clock", trouble.detail, trouble.mend)
        return self._good("clock", f"the store's and ours differ by {off:.0f} s")

    # region and addressing

    def _region(self, answer: Answer) -> _Result:
        told = _told_region(answer)
        ours = self.store.connection.reader.meta.region_name
        if told and told != ours:
            # The store answered all the same: it does not look at the region, or boto3 followed a redirection.
            self._correct_region(told)
        configured = self.store.configured.region
        now = self.store.connection.reader.meta.region_name
        if configured is not None and configured != now:
            return self._warning(
                "region",
                f"the bucket is in {now}, not in {configured}; corrected while this process runs",
                f"s3-region {now}",
            )
        return self._good("region", f"{now}" + ("" if told else " (the store does not tell its own)"))

    def _correct_region(self, region: str) -> None:
        self.store.reconnect(region=region)

    def _in_host(self) -> bool:
        bucket = self.store.settings.bucket
        return urlsplit(client.bucket_url(self.store.connection.reader, bucket)).path.strip("/") != bucket

    def _addressing(self) -> _Result:
        place = "the host name" if self._in_host() else "the path of the URL"
        style = self.store.settings.addressing_style
        if self.store.configured.addressing_style == "virtual" and style == "path":
            return self._warning(
                "addressing",
                "the endpoint's host name with the bucket before it leads nowhere; the bucket is put into the path of"
                " the URL while this process runs",
                "s3-addressing-style path",
            )
        return self._good("addressing", f"{style}: the bucket stands in {place}")

    # encryption

    def _keys(self) -> Trouble | None:
        """A key that cannot be had. Those that the bucket keeps are asked for by whoever opens the storage."""
        ring = self.store.encryption.ring
        try:
            for id, provider in () if ring is None else ring.providers.items():
                if not provider.keeps:
                    ring.key(id)
        except (ConfigurationError, Unavailable) as error:
            detail, _, mend = str(error).partition("; ")
            return Trouble(
                "encryption", detail, mend or "correct the section of that key", isinstance(error, Unavailable)
            )
        return None

    def _encryption(self, taken: Answer) -> _Result:
        """Of a PUT that the store took."""
        configured, asked = self.store.encryption, self.store.connection.encryption
        try:
            asked.check_echo(taken.response)
        except EncryptionNotHonoured as error:
            return self._bad(modes.ignored(asked.name, str(error)))
        said = modes.said(configured, taken.response)
        return self._none("encryption", said) if configured.name == "none" else self._good("encryption", said)

    # writing

    def _written(self) -> Iterator[_Result]:
        scratch = self.scratch
        first = scratch.put(conditional=True, checksum=True)
        taken = first  # the answer of the PUT that the store took
        with_checksum = first
        if first.unsupported or first.denied:
            taken = scratch.put()
            if taken.ok:
                with_checksum = scratch.put(checksum=True)
        again = scratch.put(conditional=True) if taken.ok else taken
        # A store that fails just now has not shown what it can do: that must not count as "ignores the condition".
        unknown = next((answer for answer in (taken, with_checksum, again) if answer.transient), None)
        if unknown is not None or not taken.ok:
            yield from self._refused(unknown or taken)
            return
        yield self._good("write", f"{FOLDER}/ can be written")
        yield self._encryption(taken)
        if not self.writable:  # the caller went on after that: nothing may be kept in clear
            return
        self.store.measured_etags(are_md5=plain_md5(taken.response) == BODY_MD5.hex())
        yield self._checksums(taken, with_checksum.ok)
        yield self._conditional(again.status in (409, 412))

    def _refused(self, answer: Answer) -> Iterator[_Result]:
        """A PUT that nothing made acceptable."""
        assert answer.failure is not None
        settings = self.store.settings
        log.error("preflight, write: bucket %r: %s", settings.bucket, answer.failure.detail)
        encryption = self.store.connection.encryption
        if encryption.name != "none" and not answer.transient and self.scratch.put(encrypted=False).ok:
            yield self._good("write", f"{FOLDER}/ can be written")
            yield self._bad(modes.refused(encryption.name, f"{answer.status} {answer.code}"))
        elif answer.transient:
            yield self._bad(
                Trouble(
                    "write",
                    "the object store cannot take an object now",
                    "start it or wait; s3-endpoint-url says which it is",
                    transient=True,
                )
            )
        elif answer.code == "InvalidStorageClass" or (answer.unsupported and settings.storage_class):
            yield self._bad(
                Trouble(
                    "write",
                    f"the object store does not take the storage class {settings.storage_class!r}",
                    "storage-class: correct or remove it",
                )
            )
        else:
            yield self._bad(
                Trouble(
                    "write",
                    f"the bucket {settings.bucket!r} can be read, but not written",
                    "s3-access-key: let its policy allow s3:PutObject, or set read-only on",
                )
            )

    def _checksums(self, taken: Answer, accepted: bool) -> _Result:
        echoed = bool(taken.response.get("ChecksumSHA256"))
        self.store.measured(checksum_headers=accepted)
        if not accepted:
            return self._good("checksums", "the newer headers are refused; uploads are proven by their MD5")
        if not echoed:
            detail = "the newer headers are taken, but not confirmed; uploads are proven by their MD5"
            return self._good("checksums", detail)
        return self._good("checksums", "the newer headers are confirmed; uploads are proven by their MD5")

    def _conditional(self, supported: bool) -> _Result:
        self.store.measured(conditional_writes=supported)
        if supported:
            return self._good("conditional writes", "If-None-Match: * is kept")
        return self._warning(
            "conditional writes",
            "the object store ignores If-None-Match: of two that open a new prefix at one moment both would believe"
            " that it is theirs",
            "open a new prefix with one process first, and give each site an s3-prefix or bucket-name of its own",
        )


def _told_region(answer: Answer) -> str:
    """The bucket's region, where an answer says it: in a header, in the error's XML, or in its message."""
    told = answer.headers.get("x-amz-bucket-region", "") or str(answer.error.get("Region") or "")
    if not told and answer.code == "AuthorizationHeaderMalformed":
        found = _EXPECTED_REGION.search(answer.trouble)
        told = found[1] if found else ""
    return told if re.fullmatch(r"[A-Za-z0-9-]{1,63}", told) else ""


def _is_about_region(*answers: Answer) -> bool:
    return any(
        300 <= answer.status < 400
        or answer.code in ("AuthorizationHeaderMalformed", "PermanentRedirect")
        or (answer.status == 400 and "x-amz-bucket-region" in answer.headers)
        for answer in answers
    )
