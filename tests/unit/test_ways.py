"""In which way an object is asked for, while its keys are changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.objectstore.counted import CountedClient
from collective.s3blobstorage.objectstore.traffic import Traffic
from collective.s3blobstorage.objectstore.ways import Ways


@dataclass(frozen=True)
class Reached:
    """What ``Ways`` needs of a connection."""

    encryption: str
    traffic: Traffic = field(default_factory=Traffic)
    reader: CountedClient = CountedClient(None, Traffic())
    signed_reader: CountedClient = CountedClient(None, Traffic())
    one_of_several: bool = False


class Objects:
    """``fits``: the key that the object needs; ``then``: after the first refusal."""

    def __init__(self, fits, then=None):
        self.ways = Ways(Reached("new"), ["new", "former", "none"])
        self.fits, self.then = fits, then or fits
        self.asked = []

    def ask(self, way):
        self.asked.append(way.encryption)
        if way.encryption == self.fits:
            return way.encryption
        self.fits = self.then
        raise Refused(way.encryption)

    def first(self):
        return self.ways.first("key", self.ask)


def test_the_way_that_fits_is_remembered_until_it_does_not():
    objects = Objects("former")
    assert [objects.first(), objects.first()] == ["former", "former"]
    assert objects.asked == ["new", "former", "former"]
    objects.fits = objects.then = "new"
    assert objects.first() == "new" and objects.first() == "new"
    assert objects.asked[3:] == ["former", "new", "new"]


def test_what_was_rewritten_is_asked_for_as_it_is_now():
    objects = Objects("former")
    objects.first()
    objects.fits = objects.then = "new"
    objects.ways.forget("key")
    assert objects.first() == "new" and objects.asked[2:] == ["new"]


def test_an_object_that_is_rotated_between_two_tries():
    objects = Objects("former", then="new")
    assert objects.first() == "new"
    assert objects.asked == ["new", "former", "none", "new"]


def test_what_fits_in_no_way_is_refused_as_by_the_first():
    objects = Objects("lost")
    with pytest.raises(Refused, match="new"):
        objects.first()
    assert objects.asked == ["new", "former", "none", "new"]
