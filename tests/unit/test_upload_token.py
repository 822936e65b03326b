"""The token of an upload: all of a ticket comes back, and no text that the site did not write is taken."""

from __future__ import annotations

import base64
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("plone.keyring")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from plone.keyring.interfaces import IKeyManager  # noqa: E402
from plone.keyring.keymanager import KeyManager  # noqa: E402
from zope.component import getGlobalSiteManager  # noqa: E402

from collective.s3blobstorage.directupload.interfaces import Upload  # noqa: E402
from collective.s3blobstorage.uploading.interfaces import Announced, Ticket, UploadRefused  # noqa: E402
from collective.s3blobstorage.uploading.token import LONGEST, read, sign  # noqa: E402

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TICKET = Ticket(
    Upload("0123456789abcdef" * 2, 20 * 2**20, 8 * 2**20, "2~abcDEF", NOW, bytes(range(32))),
    Announced("Übersicht.mp4", 20 * 2**20, "video/mp4", "File", "file", ""),
    "plone/acl_users jane",
    "main",
    "/plone",
    "5f8a" * 8,
    NOW + timedelta(hours=24),
)


@pytest.fixture(scope="module", autouse=True)
def ring():
    manager = KeyManager()
    getGlobalSiteManager().registerUtility(manager, IKeyManager)
    yield manager
    getGlobalSiteManager().unregisterUtility(manager, IKeyManager)


def kind_of(text, now=NOW):
    with pytest.raises(UploadRefused) as refused:
        read(text, now=now)
    return refused.value.kind


def test_a_ticket_comes_back_whole_and_is_short():
    text = sign(TICKET)
    assert read(text, now=NOW) == TICKET
    assert len(text) < 450 and not set(text) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
tickets = st.integers(1, 5 * 2**40).flatmap(
    lambda size: st.builds(
        Ticket,
        st.builds(
            Upload, st.just("ab" * 16), st.just(size), st.integers(0, 5 * 2**30), texts,
            st.just(NOW), st.none() | st.binary(min_size=32, max_size=32),
        ),
        st.builds(Announced, texts, st.just(size), texts, texts, texts, texts),
        texts, texts, texts, texts, st.just(NOW + timedelta(seconds=1)),
    )
)  # fmt: skip


@given(tickets)
def test_any_ticket_comes_back(ticket):
    assert read(sign(ticket), now=NOW) == ticket


@given(st.data())
def test_no_changed_token_is_taken(data):
    """Every bit counts, also those of the last letter that base64 does not use."""
    text = sign(TICKET)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda letter: letter != text[at]))
    assert kind_of(text[:at] + letter + text[at + 1 :]) == "token"
    assert kind_of(text[:at]) == "token"
    assert kind_of(text + letter) == "token"


def test_every_bit_of_the_last_letter():
    text = sign(TICKET)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = [letter for letter in alphabet if letter != text[-1] and try_to_read(text[:-1] + letter)]
    assert taken == []


def try_to_read(text):
    try:
        return read(text, now=NOW)
    except UploadRefused:
        return None


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_other_text_is_taken(text):
    assert kind_of(text) == "token"


@pytest.mark.parametrize("text", ["", "=", "A", "A" * (LONGEST + 1), sign.__name__, "AQ", "\ud800", "a b"])
def test_what_is_no_token(text):
    assert kind_of(text) == "token"


def test_padding_and_the_other_alphabet_are_no_second_form():
    text = sign(TICKET)
    assert kind_of(text + "=") == "token" and kind_of(text + "==") == "token"
    other = text.replace("-", "+").replace("_", "/")
    assert other != text or "-" not in text
    if other != text:
        assert kind_of(other) == "token"


def test_after_its_time():
    text = sign(TICKET)
    assert read(text, now=TICKET.expires - timedelta(seconds=1)) == TICKET
    assert kind_of(text, TICKET.expires) == "expired"
    assert kind_of(sign(dataclasses.replace(TICKET, expires=NOW - timedelta(days=3)))) == "expired"


def test_the_machines_clock_is_asked_where_none_is_given():
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    assert read(sign(dataclasses.replace(TICKET, expires=later))).expires == later
    with pytest.raises(UploadRefused) as refused:
        read(sign(dataclasses.replace(TICKET, expires=later - timedelta(minutes=2))))
    assert refused.value.kind == "expired"


def test_older_secrets_of_the_ring_are_good_until_they_leave_it(ring):
    text = sign(TICKET)
    for _ in range(4):
        ring.rotate()
        assert read(text, now=NOW) == TICKET
    assert sign(TICKET) != text
    ring.rotate()
    assert kind_of(text) == "token"


def test_another_site_and_another_ring_of_this_one(ring):
    text = sign(TICKET)
    secret = ring.secret()
    getGlobalSiteManager().registerUtility(KeyManager(), IKeyManager)
    try:
        assert kind_of(text) == "token"
    finally:
        getGlobalSiteManager().registerUtility(ring, IKeyManager)
    assert read(text, now=NOW) == TICKET and ring.secret() == secret


def test_nothing_is_signed_that_is_not_all_of_the_same_file():
    with pytest.raises(ValueError, match="announced"):
        sign(dataclasses.replace(TICKET, announced=dataclasses.replace(TICKET.announced, size=1)))


def test_too_long_for_an_address():
    with pytest.raises(ValueError, match="too long"):
        sign(dataclasses.replace(TICKET, user="u" * LONGEST))
