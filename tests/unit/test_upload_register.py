"""The register of a site's direct uploads: limits, results, days that go, and what conflicts with what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("zope.annotation")

import transaction  # noqa: E402
from persistent.mapping import PersistentMapping  # noqa: E402
from ZODB import DB  # noqa: E402
from ZODB.FileStorage import FileStorage  # noqa: E402
from ZODB.POSException import ConflictError  # noqa: E402
from zope.annotation.interfaces import IAnnotations  # noqa: E402
from zope.interface import implementer  # noqa: E402

from collective.s3blobstorage.directupload.interfaces import Upload  # noqa: E402
from collective.s3blobstorage.uploading.interfaces import Announced, Ticket, UploadRefused  # noqa: E402
from collective.s3blobstorage.uploading.open_uploads import KEY, OpenUploads, forget  # noqa: E402

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@implementer(IAnnotations)
class Site(PersistentMapping):
    """Which is its own annotations."""


@dataclass
class Limits:
    user_count: int = 3
    user_size: int = 100
    site_size: int = 150


LIMITS = Limits()


def ticket(number, size=10, user="jane", expires=NOW + DAY):
    upload = Upload(f"{number:032x}", size, 0, "", NOW)
    return Ticket(upload, Announced("a", size, "text/plain", "File"), user, "main", "/plone", "", expires)


def kind_of(call, *arguments):
    with pytest.raises(UploadRefused) as refused:
        call(*arguments)
    return refused.value.kind


def uploads(site, now=NOW):
    return OpenUploads(site, now=now)


def test_reading_makes_nothing():
    site = Site()
    register = uploads(site)
    assert not register.is_open("a") and register.result("a") is None and register.usage("jane") == (0, 0, 0)
    register.end("a")
    register.check("jane", 1, LIMITS)
    forget(site)
    assert not site


def test_the_life_of_one():
    site = Site()
    one = ticket(1)
    uploads(site).begin(one, LIMITS)
    assert uploads(site).is_open(one.upload.id) and uploads(site).result(one.upload.id) is None
    uploads(site).finish(one, "a-uid")
    assert not uploads(site).is_open(one.upload.id) and uploads(site).result(one.upload.id) == "a-uid"
    assert kind_of(uploads(site).finish, one, "another") == "ended"
    uploads(site).end(one.upload.id)  # what has become content stays so
    assert uploads(site).result(one.upload.id) == "a-uid"
    later = uploads(site, one.expires)
    assert later.result(one.upload.id) is None
    forget(site)
    assert not site


def test_one_that_was_ended():
    site = Site()
    one = ticket(1)
    uploads(site).begin(one, LIMITS)
    uploads(site).end(one.upload.id)
    assert not uploads(site).is_open(one.upload.id) and uploads(site).result(one.upload.id) is None
    assert kind_of(uploads(site).finish, one, "a-uid") == "ended"
    assert kind_of(uploads(site).finish, ticket(2), "a-uid") == "ended"  # was never begun here


def test_a_token_that_is_kept():
    """With what became of it, as long as the day is there; of others there is none."""
    site = Site()
    one, two = ticket(1), ticket(2)
    uploads(site).begin(one, LIMITS, token="a-token")
    uploads(site).begin(two, LIMITS)
    assert uploads(site).token(one.upload.id) == "a-token" and uploads(site).token(two.upload.id) is None
    assert uploads(site).usage("jane") == (2, 20, 20)
    uploads(site).finish(one, "a-uid")
    assert uploads(site).token(one.upload.id) == "a-token" and uploads(site).result(one.upload.id) == "a-uid"
    assert uploads(site, one.expires).token(one.upload.id) == "a-token"
    assert uploads(site, one.expires + DAY).token(one.upload.id) is None
    assert uploads(Site()).token(one.upload.id) is None


def test_limits():
    site = Site()
    for number in range(3):
        uploads(site).begin(ticket(number), LIMITS)
    assert kind_of(uploads(site).begin, ticket(3), LIMITS) == "quota"
    assert not uploads(site).is_open(ticket(3).upload.id)
    uploads(site).begin(ticket(4, 100, "joe"), LIMITS)
    assert uploads(site).usage("joe") == (1, 100, 130)
    assert kind_of(uploads(site).begin, ticket(5, 1, "joe"), LIMITS) == "quota"  # 101 of the user
    assert kind_of(uploads(site).begin, ticket(5, 21, "jim"), LIMITS) == "quota"  # 151 of the site
    uploads(site).begin(ticket(5, 20, "jim"), LIMITS)
    # What is finished or was ended is nobody's any more.
    uploads(site).finish(ticket(0), "a-uid")
    uploads(site).end(ticket(1).upload.id)
    assert uploads(site).usage("jane") == (1, 10, 130)
    uploads(site).begin(ticket(6, 20), LIMITS)


def test_what_expired_does_not_count_and_goes_day_by_day():
    site = Site()
    for number in range(3):
        uploads(site).begin(ticket(number, expires=NOW + timedelta(hours=number + 1)), LIMITS)
    soon = NOW + timedelta(hours=2)
    assert uploads(site, soon).usage("jane") == (1, 10, 10)
    assert len(site[KEY].days) == 1
    uploads(site, soon).begin(ticket(4, expires=soon + DAY), LIMITS)
    assert len(site[KEY].days) == 2
    uploads(site, NOW + 3 * DAY).begin(ticket(5, expires=NOW + 4 * DAY), LIMITS)
    assert len(site[KEY].days) == 1 and [list(day) for day in site[KEY].days.values()] == [[ticket(5).upload.id]]


# Two threads of one database


class Threads:
    """Two connections of a database, each with a transaction of its own that began before the other committed."""

    def __init__(self, file):
        self.db = DB(FileStorage(str(file)))
        with self.db.transaction() as connection:
            site = connection.root()["site"] = Site()
            for number in range(40, 60):
                OpenUploads(site, now=NOW).begin(ticket(number, 1), Limits(99, 999, 999))
        self.managers = [transaction.TransactionManager() for _ in range(2)]
        self.sites = [self.db.open(manager).root()["site"] for manager in self.managers]
        for manager in self.managers:
            manager.begin()

    def do(self, *changes):
        for site, change in zip(self.sites, changes, strict=True):
            change(OpenUploads(site, now=NOW))
        for manager in self.managers:
            manager.commit()

    def now(self):
        for manager in self.managers:
            manager.begin()
        return uploads(self.sites[0])


@pytest.fixture
def threads(tmp_path):
    made = Threads(tmp_path / "Data.fs")
    yield made
    for manager in made.managers:
        manager.abort()
    made.db.close()


def finish(number, uid="a-uid"):
    return lambda register: register.finish(ticket(number), uid)


def begin(number):
    return lambda register: register.begin(ticket(number, 1), Limits(99, 999, 999))


def end(number):
    return lambda register: register.end(ticket(number).upload.id)


@pytest.mark.parametrize(
    "changes",
    [
        (finish(40), finish(41)),
        (finish(40), end(59)),
        (begin(1), finish(40)),
        (begin(1), begin(100)),
        (end(40), end(41)),
    ],
)
def test_different_ones_do_not_conflict(threads, changes):
    threads.do(*changes)
    seen = threads.now()
    open_ones = sum(seen.is_open(ticket(number).upload.id) for number in range(40, 60))
    assert open_ones == 20 - sum(change.__qualname__.startswith(("finish", "end")) for change in changes)


@pytest.mark.parametrize(
    "changes",
    [(finish(40, "one"), finish(40, "two")), (finish(40), finish(40)), (finish(40), end(40)), (end(40), finish(40))],
)
def test_two_changes_of_one_conflict_and_the_second_sees_the_first(threads, changes):
    with pytest.raises(ConflictError):
        threads.do(*changes)
    seen = threads.now()
    assert not seen.is_open(ticket(40).upload.id)
    with pytest.raises(UploadRefused):
        seen.finish(ticket(40), "two")
