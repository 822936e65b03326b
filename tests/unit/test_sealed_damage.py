"""Whatever is done to a sealed object in the bucket: its reader says so, and gives out no byte but the right ones.

The outcome is Corrupt, or EncryptionKeyMissing where the keys are others; never another error, and never silence: also
what changes no byte of the plain text is noticed.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rings import ring_of
from sealed_objects import SealedObject, blocks, read_range, read_whole, seal

from collective.s3blobstorage.encryption.envelope import SEALED, DataKey, key_name, unwrap
from collective.s3blobstorage.encryption.segments import (
    HEADER,
    SEALED_SEGMENT,
    SEGMENT,
    TAG,
    Opener,
    header,
    plain_size,
    sealed_size,
)
from collective.s3blobstorage.errors import Corrupt, EncryptionKeyMissing

MATERIAL = {name: hashlib.sha256(name.encode()).digest() for name in ("one", "two", "three")}
RING = ring_of("one", one=MATERIAL["one"], two=MATERIAL["two"])
# Of the same ids, with the bytes the other way round; and one that has only the second key.
EXCHANGED = ring_of("one", one=MATERIAL["two"], two=MATERIAL["one"])
WITHOUT = ring_of("two", two=MATERIAL["two"])

SMALL = (0, 1, 40, 1000)
LARGE = (SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 17, 3 * SEGMENT)


class Sample:
    """An object, and what it holds."""

    def __init__(self, size: int, number: int) -> None:
        self.plain = random.Random(size).randbytes(size)
        self.sha256 = hashlib.sha256(self.plain).digest()
        self.object = seal(RING.key("one"), f"blobs/{number:016x}/{size:032x}", self.plain, self.sha256)

    def __repr__(self) -> str:
        return f"{len(self.plain)} bytes"


SAMPLES = {size: Sample(size, number) for number, size in enumerate((*SMALL, *LARGE))}
# Twins: as long, other bytes, sealed with the same key of the ring.
OTHERS = {size: Sample(size, number + 100) for number, size in enumerate((*SMALL, *LARGE))}
every_size = pytest.mark.parametrize("sample", SAMPLES.values(), ids=repr)


def refused(found: SealedObject, ring=RING, block: int = 1 << 20) -> Exception:
    """The error; fails where there is none. Any other error goes through."""
    try:
        plain, sha256 = read_whole(ring, found, block)
    except (Corrupt, EncryptionKeyMissing) as error:
        return error
    raise AssertionError(f"{len(plain)} bytes were read, with the hash {sha256.hex()}")


def is_corrupt(found: SealedObject, ring=RING, block: int = 1 << 20) -> bool:
    return type(refused(found, ring, block)) is Corrupt


def flipped(data: bytes, bit: int) -> bytes:
    at, which = divmod(bit, 8)
    return data[:at] + bytes((data[at] ^ 1 << which,)) + data[at + 1 :]


@every_size
@pytest.mark.parametrize("block", [7000, SEALED_SEGMENT, 1 << 20])
def test_what_nobody_changed_is_read(sample, block):
    assert read_whole(RING, sample.object, block) == (sample.plain, sample.sha256)
    assert read_whole(ring_of("two", one=MATERIAL["one"], two=MATERIAL["two"]), sample.object)[0] == sample.plain


# Bit by bit


def test_every_bit_of_a_small_object():
    for size in SMALL[:3]:
        whole = SAMPLES[size].object
        for bit in range(8 * len(whole.stored)):
            assert is_corrupt(replace(whole, stored=flipped(whole.stored, bit))), bit


@every_size
def test_a_bit_in_every_region(sample):
    """Each bit of the header, and the first and last byte of each segment and of each tag."""
    whole = sample.object
    bits = set(range(8 * HEADER))
    begin = HEADER
    for segment in whole.segments:
        for at in (0, len(segment) - TAG - 1, len(segment) - TAG, len(segment) - 1):
            bits.update(range(8 * (begin + max(at, 0)), 8 * (begin + max(at, 0)) + 8))
        begin += len(segment)
    assert begin == len(whole.stored)
    for bit in bits:
        assert is_corrupt(replace(whole, stored=flipped(whole.stored, bit))), bit


@pytest.mark.parametrize("name", ["envelope", "hidden"])
def test_every_bit_of_the_metadata(name):
    sample = SAMPLES[40].object
    text = getattr(sample, name)
    for bit in range(8 * len(text)):
        changed = flipped(text.encode(), bit).decode("latin-1")
        refused(replace(sample, **{name: changed}))


@pytest.mark.parametrize("name", ["envelope", "hidden"])
def test_every_character_of_the_metadata_taken_added_and_written_otherwise(name):
    sample = SAMPLES[40].object
    text = getattr(sample, name)
    for at in range(len(text)):
        refused(replace(sample, **{name: text[:at]}))
        refused(replace(sample, **{name: text[:at] + text[at + 1 :]}))
    for at in range(len(text) + 1):
        for more in "A-_+/= \n\0\x7fé\ud800":
            refused(replace(sample, **{name: text[:at] + more + text[at:]}))
    for number in range(20):  # the other alphabet of base64, and padding
        drawn = seal(RING.key("one"), sample.key, b"plain", hashlib.sha256(bytes(number)).digest())
        text = getattr(drawn, name)
        for other in {text.replace("-", "+"), text.replace("_", "/"), text + "=", text + "===="} - {text}:
            assert is_corrupt(replace(drawn, **{name: other}))


# Segments


def changed_parts(sample: Sample, change) -> SealedObject:
    parts = list(sample.object.segments)
    change(parts)
    return replace(sample.object, stored=sample.object.stored[:HEADER] + b"".join(parts))


@every_size
@pytest.mark.parametrize("block", [7000, 1 << 20])
def test_truncated(sample, block):
    """Everywhere in a small one; in a large one at every border, and around it."""
    stored = sample.object.stored
    borders = {0, HEADER, *(HEADER + at for at in range(0, len(stored), SEALED_SEGMENT)), len(stored)}
    near = {border + by for border in borders for by in (-TAG - 1, -TAG, -1, 0, 1, TAG, TAG + 1)}
    lengths = range(len(stored)) if len(stored) < 2000 else sorted(at for at in near if 0 <= at < len(stored))
    for length in lengths:
        assert is_corrupt(replace(sample.object, stored=stored[:length]), block=block), length
        assert is_corrupt(replace(sample.object, stored=stored[length + 1 :]), block=block), length


@every_size
def test_a_body_that_breaks_off_while_the_size_is_known(sample):
    """The store said how long the object is, and sends less: also where it ends with a whole segment."""
    stored, key = sample.object.stored, unwrap(RING, sample.object.envelope, sample.object.key)
    for end in {0, 20, HEADER, *range(HEADER, len(stored), SEALED_SEGMENT), len(stored) - 1}:
        opener = Opener(key.cipher, key.commitment, len(sample.plain))
        opener.feed(stored[:end])
        with pytest.raises(Corrupt):
            opener.finish()


@every_size
def test_more_behind_the_end(sample):
    parts = sample.object.segments
    for more in (b"\0", bytes(TAG), parts[-1], parts[0], sample.object.stored, bytes(SEALED_SEGMENT)):
        assert is_corrupt(replace(sample.object, stored=sample.object.stored + more))
    # As soon as it comes: what goes on without an end is not gathered.
    key = unwrap(RING, sample.object.envelope, sample.object.key)
    opener = Opener(key.cipher, key.commitment, len(sample.plain))
    assert opener.feed(sample.object.stored) == sample.plain
    with pytest.raises(Corrupt):
        opener.feed(b"\0")


@pytest.mark.parametrize("size", [size for size in LARGE if size > SEGMENT])
def test_dropped_repeated_and_reordered(size):
    sample = SAMPLES[size]
    count = len(sample.object.segments)
    for i in range(count):
        assert is_corrupt(changed_parts(sample, lambda parts, i=i: parts.pop(i)))
        assert is_corrupt(changed_parts(sample, lambda parts, i=i: parts.insert(i, parts[i])))
        for j in range(i):

            def exchange(parts, i=i, j=j):
                parts[i], parts[j] = parts[j], parts[i]

            def repeat(parts, i=i, j=j):
                parts[i] = parts[j]

            assert is_corrupt(changed_parts(sample, exchange)) and is_corrupt(changed_parts(sample, repeat))


def test_the_last_segment_says_so():
    """By who could encrypt with the object's own key: an object that ends early, or goes on, is not the one."""
    data_key = DataKey.draw()
    plain = SAMPLES[2 * SEGMENT + 17].plain
    first, second, last = (plain[at : at + SEGMENT] for at in range(0, len(plain), SEGMENT))
    encrypt = data_key.cipher.encrypt
    for segments in (
        [encrypt(0, False, first), encrypt(1, False, second)],
        [encrypt(0, True, first), encrypt(1, False, second), encrypt(2, True, last)],
        [encrypt(0, False, first), encrypt(1, False, second), encrypt(2, False, last)],
        [encrypt(1, False, first), encrypt(2, False, second), encrypt(3, True, last)],
    ):
        stored = header(data_key.commitment) + b"".join(segments)
        found = SealedObject("blobs/1/2", data_key.wrapped(RING.active, "blobs/1/2"), data_key.hide(bytes(32)), stored)
        assert is_corrupt(found)


# Other objects, other keys


@every_size
def test_parts_of_another_object(sample):
    mine, other = sample.object, OTHERS[len(sample.plain)].object
    for name in ("envelope", "hidden", "stored", "key"):
        assert is_corrupt(replace(mine, **{name: getattr(other, name)})), name
        assert is_corrupt(replace(other, **{name: getattr(mine, name)})), name
    for i, segment in enumerate(other.segments):
        assert is_corrupt(changed_parts(sample, lambda parts, i=i, segment=segment: parts.__setitem__(i, segment)))
    assert is_corrupt(replace(mine, stored=other.stored[:HEADER] + mine.stored[HEADER:]))
    # The whole of it, envelope and all, in my place.
    assert is_corrupt(replace(other, key=mine.key))


@pytest.mark.parametrize(
    "key", ["", "blobs/", "prefix/blobs/0000000000000002/x", "blobs/0000000000000002/x\0", "BLOBS/0000000000000002/x"]
)
def test_under_another_key(key):
    sample = seal(RING.active, "blobs/0000000000000002/x", b"plain", bytes(32))
    assert read_whole(RING, sample)[0] == b"plain"
    assert is_corrupt(replace(sample, key=key))


def test_other_keys():
    sample = SAMPLES[40].object
    missing = refused(sample, WITHOUT)
    assert type(missing) is EncryptionKeyMissing and (missing.id, missing.other) == ("one", False)
    other = refused(sample, EXCHANGED)
    assert type(other) is EncryptionKeyMissing and (other.id, other.other) == ("one", True)
    # The envelope names the key that the ring has, by id and version: it did not wrap this data key.
    name = RING.key("one").name
    for ring, key in ((EXCHANGED, "one"), (RING, "two"), (WITHOUT, "two")):
        assert is_corrupt(replace(sample, envelope=sample.envelope.replace(name, ring.key(key).name)), ring)
    for word in ("one/00000000", "three/00000000", "ONE" + name[3:]):
        assert type(refused(replace(sample, envelope=sample.envelope.replace(name, word)))) is EncryptionKeyMissing


def test_another_key_by_the_same_wrapping_key_for_another_purpose():
    """What a key of the ring wrapped, hidden or encrypted for one purpose opens for no other one."""
    sample = SAMPLES[40].object
    assert is_corrupt(replace(sample, hidden=sample.envelope.rpartition(" ")[2]))
    assert is_corrupt(replace(sample, hidden=sample.envelope.rpartition(" ")[2][:64]))


def test_a_newer_format_says_so():
    sample = SAMPLES[40].object
    for newer in (
        replace(sample, envelope="2" + sample.envelope[1:]),
        replace(sample, envelope="12 something else entirely"),
        replace(sample, stored=sample.stored[:8] + b"\2" + sample.stored[9:]),
    ):
        error = refused(newer)
        assert type(error) is Corrupt and "newer release" in str(error)
    with pytest.raises(Corrupt, match="newer release"):
        key_name({SEALED: "2" + sample.envelope[1:]})
    for damaged in (replace(sample, envelope="0" + sample.envelope[1:]), replace(sample, envelope="x")):
        assert "newer" not in str(refused(damaged))


def test_the_hash_is_plain_bytes():
    """It goes into ZODB records and comparisons; only keys are secrets."""
    assert type(read_whole(RING, SAMPLES[40].object)[1]) is bytes


# Ranges of a damaged object


def right_or_corrupt(sample: Sample, found: SealedObject, start: int, length: int, block: int = 1 << 20) -> str:
    try:
        plain = read_range(RING, found, start, length, block)
    except Corrupt:
        return "corrupt"
    # Behind the end of what is stored there is nothing to read; that it is too short shows by its size.
    assert plain == (sample.plain[start : start + length] if start < plain_size(len(found.stored)) else b"")
    return "right"


@pytest.mark.parametrize("size", LARGE)
def test_a_range_is_right_or_refused(size):
    sample = SAMPLES[size]
    for bit in (0, 8 * HEADER, 8 * (HEADER + size // 2), 8 * (len(sample.object.stored) - 1)):
        found = replace(sample.object, stored=flipped(sample.object.stored, bit))
        hit = (bit // 8 - HEADER) // SEALED_SEGMENT if bit else None
        for number in range(len(sample.object.segments)):
            came = right_or_corrupt(sample, found, number * SEGMENT, 1)
            assert came == ("corrupt" if number == hit else "right")


# At random


@given(st.text() | st.from_regex(r"\A[0-9]{1,3} [A-Za-z0-9._/-]{0,80} [A-Za-z0-9_=+/-]{70,90}\Z"))
def test_any_text_as_an_envelope(text):
    with pytest.raises((Corrupt, EncryptionKeyMissing)):
        unwrap(RING, text, "blobs/1/2")
    try:
        assert key_name({SEALED: text})
    except Corrupt:
        pass


@given(st.text() | st.from_regex(r"\A[A-Za-z0-9_-]{60,68}={0,4}\Z"))
def test_any_text_as_a_hidden_hash(text):
    with pytest.raises(Corrupt):
        DataKey(bytes(32)).unhide(text)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 50), st.booleans())
def test_any_bytes_as_an_object(data, size, block, with_header):
    key = DataKey(bytes(32))
    opener = Opener(key.cipher, key.commitment, size, with_header=with_header)
    if with_header or data:
        with pytest.raises(Corrupt):
            for piece in blocks(data, block):
                assert opener.feed(piece) == b""
            opener.finish()


@given(st.integers(-(10**6), 10**15))
def test_any_size(stored):
    """Each size of plain text has one size as it is stored, and no other one is taken."""
    assert plain_size(sealed_size(abs(stored))) == abs(stored)
    try:
        assert sealed_size(plain_size(stored)) == stored and plain_size(stored) >= 0
    except Corrupt:
        assert stored < HEADER + TAG or (stored - HEADER) % SEALED_SEGMENT <= TAG


def test_every_size_up_to_some_segments():
    sizes = {sealed_size(size): size for size in range(4 * SEGMENT + 2)}
    assert len(sizes) == 4 * SEGMENT + 2
    for stored in range(-5, sealed_size(4 * SEGMENT)):
        try:
            assert plain_size(stored) == sizes[stored]
        except Corrupt:
            assert stored not in sizes


class Fuzzer:
    """Draws one attack after the other on an object; always the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.attacks = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("on_")]

    def draw(self):
        """(name of the attack, what was attacked, what the bucket has then, the keys that the reader has)."""
        size = self.random.choice(SMALL if self.random.random() < 0.85 else LARGE)
        sample = SAMPLES[size]
        while True:
            attack = self.random.choice(self.attacks)
            ring, found = attack(sample.object) or (RING, sample.object)
            if ring is not RING or found != sample.object:
                return attack.__name__, sample, found, ring

    def another(self) -> SealedObject:
        samples = self.random.choice((SAMPLES, OTHERS))
        return samples[self.random.choice(SMALL if self.random.random() < 0.9 else LARGE)].object

    def place(self, data: bytes) -> int:
        """Somewhere; at a border more often than by chance."""
        if self.random.random() < 0.5:
            return self.random.randrange(len(data) + 1)
        borders = [0, 8, 9, 10, 16, HEADER, *range(HEADER, len(data), SEALED_SEGMENT), len(data) - TAG, len(data)]
        return min(len(data), max(0, self.random.choice(borders) + self.random.choice((-1, 0, 1))))

    def on_bits(self, whole):
        stored = bytearray(whole.stored)
        for _ in range(self.random.choice((1, 1, 1, 2, 8))):
            stored[min(self.place(stored), len(stored) - 1)] ^= 1 << self.random.randrange(8)
        return RING, replace(whole, stored=bytes(stored))

    def on_bytes(self, whole):
        at = self.place(whole.stored)
        some = self.random.randbytes(self.random.choice((1, 2, 4, TAG, 32)))
        return RING, replace(whole, stored=whole.stored[:at] + some + whole.stored[at + len(some) :])

    def on_length(self, whole):
        at, end = sorted((self.place(whole.stored), self.place(whole.stored)))
        kept = self.random.choice((whole.stored[:at], whole.stored[at:end], whole.stored[:at] + whole.stored[end:]))
        return RING, replace(whole, stored=kept)

    def on_more(self, whole):
        at = self.place(whole.stored)
        more = self.random.choice((self.random.randbytes(TAG), self.random.choice(self.another().parts)))
        return RING, replace(whole, stored=whole.stored[:at] + more + whole.stored[at:])

    def on_segments(self, whole):
        parts = whole.segments
        which = self.random.randrange(4)
        i, j = self.random.randrange(len(parts)), self.random.randrange(len(parts))
        if which == 0:
            parts[i], parts[j] = parts[j], parts[i]
        elif which == 1:
            parts.insert(i, parts[j])
        elif which == 2:
            parts[i] = self.random.choice(self.another().segments)
        else:
            del parts[i]
        return RING, replace(whole, stored=whole.stored[:HEADER] + b"".join(parts))

    def on_object(self, whole):
        other = self.another()
        if other.key == whole.key:
            return None
        names = self.random.sample(("envelope", "hidden", "stored"), self.random.randrange(1, 4))
        return RING, replace(whole, **{name: getattr(other, name) for name in names})

    def on_place(self, whole):
        return RING, replace(whole, key=f"blobs/{self.random.getrandbits(64):016x}/{self.random.getrandbits(128):032x}")

    def on_text(self, whole):
        name = self.random.choice(("envelope", "hidden"))
        text = list(getattr(whole, name))
        for _ in range(self.random.choice((1, 1, 2))):
            at = self.random.randrange(len(text))
            text[at : at + self.random.randrange(3)] = self.random.choice("AZaz09-_+/= .1\0\nßѲ")
        return RING, replace(whole, **{name: "".join(text)})

    def on_key_name(self, whole):
        name = RING.key("one").name
        other = self.random.choice((RING.key("two").name, EXCHANGED.key("one").name, "three/" + name[4:], name[::-1]))
        return RING, replace(whole, envelope=whole.envelope.replace(name, other))

    def on_ring(self, whole):
        return self.random.choice((EXCHANGED, WITHOUT)), whole


def test_inputs_at_random(tier):
    """As many as the tier says: each is refused, and a range of it is refused or right."""
    fuzzer, came = Fuzzer(8), Counter()
    for number in range(tier["sealed_inputs"]):
        attack, sample, found, ring = fuzzer.draw()
        block = fuzzer.random.choice((1 << 20, 1 << 20, 1 << 20, 30_011, SEALED_SEGMENT, HEADER))
        error = refused(found, ring, max(block, len(found.stored) // 50))
        came[attack, type(error).__name__] += 1
        if ring is RING and number % 4 == 0:
            start = fuzzer.random.randrange(len(sample.plain) + 1)
            try:
                right_or_corrupt(sample, found, start, fuzzer.random.randrange(1, 2 * SEGMENT))
            except EncryptionKeyMissing:
                assert isinstance(error, EncryptionKeyMissing)
    assert {attack for attack, _ in came} == {attack.__name__ for attack in fuzzer.attacks}, came
    assert {kind for _, kind in came} == {"Corrupt", "EncryptionKeyMissing"}
