"""Writers and garbage collection over shared objects, stepped through every interleaving.

Each is a generator that yields one request at a time; a store that answers them exactly is a set of keys. Every order
of all steps is walked, with a writer that is killed at each of its steps, and requests that are carried out long after
their process is gone. What must hold is looked at after each step: an object that a committed record names is there,
and was created once.

Garbage collection is as hostile here as it can be: it knows no age, condemns what nothing refers to at once, and
deletes in its very next round. It spares references of transactions that are under way, as ``gc-grace`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from shared_blobs import share

from collective.s3blobstorage.errors import StoreError
from collective.s3blobstorage.keys import (
    BLOBS,
    CONDEMNED,
    OBJECTS,
    condemned_key,
    object_key,
    read_condemned_key,
    read_object_key,
    read_reference_key,
    read_shared_name,
    reference_key,
    shared_name,
)
from collective.s3blobstorage.storage.sharing import (
    Bytes,
    Forget,
    Look,
    Marks,
    Reference,
    Wait,
    fill,
    renew,
    reserve,
    share_again,
)

SHA256, SIZE = b"\x5a" * 32, 7
OID = b"\0\0\0\0\0\0\0\1"
ONE, TWO, OLD = "1" * 32, "2" * 32, "0" * 32
H0 = object_key(shared_name(SHA256, 0))


def writer_of(name: str) -> str:
    """All names that a writer draws differ from its first one in their last digit."""
    return name[0] * 32


def reference(name: str, generation: int = 0) -> str:
    return reference_key(OID, name, shared_name(SHA256, generation))


# What garbage collection asks, and what ends a transaction


@dataclass(frozen=True)
class Next:
    """The next key below a prefix: listings are no picture of one moment."""

    prefix: str
    after: str


@dataclass(frozen=True)
class InUse:
    """The names that the database has, and the writers that are under way: their references are too young."""


@dataclass(frozen=True)
class Mark:
    shared: str


@dataclass(frozen=True)
class Delete:
    key: str


@dataclass(frozen=True)
class Commit:
    name: str
    shared: str | None  # None: the revision has an object of its own


@dataclass(frozen=True)
class World:
    """The bucket, the database, and requests that are still on their way. ``created``: how often each object was."""

    keys: frozenset[str]
    created: frozenset[tuple[str, int]] = frozenset()
    records: frozenset[tuple[str, str]] = frozenset()
    ended: frozenset[str] = frozenset()
    late: tuple[Any, ...] = ()

    def times_created(self, key: str) -> int:
        return dict(self.created).get(key, 0)

    def put(self, key: str) -> World:
        created = {**dict(self.created), key: self.times_created(key) + 1} if key.startswith(OBJECTS) else None
        return replace(
            self, keys=self.keys | {key}, created=self.created if created is None else frozenset(created.items())
        )

    def ask(self, request: Any) -> tuple[World, Any]:
        """What the world is after it, and the answer."""
        match request:
            case Reference(key, _):
                return self.put(key), None
            case Marks(sha256):
                marks = (read_condemned_key(key) for key in self.keys)
                found = (read_shared_name(name) for name in marks if name is not None)
                return self, frozenset(generation for digest, generation in found if digest == sha256)
            case Bytes(key):
                return (self if key in self.keys else self.put(key)), None
            case Look(key):
                return self, ((SIZE, SHA256, True) if key in self.keys else None)
            case Wait():
                return self, None
            case Forget(keys):
                return replace(self, keys=self.keys - set(keys)), None
            case Delete(key):
                return replace(self, keys=self.keys - {key}), None
            case Mark(shared):
                return self.put(condemned_key(shared)), None
            case Next(prefix, after):
                following = [key for key in self.keys if key.startswith(prefix) and key > after]
                return self, min(following, default=None)
            case InUse():
                return self, (frozenset(name for name, _ in self.records), frozenset({ONE, TWO}) - self.ended)
            case Commit(name, shared):
                records = self.records | ({(name, shared)} if shared else set())
                return replace(self, records=records, ended=self.ended | {writer_of(name)}), None
        raise AssertionError(request)

    def wrong(self) -> str | None:
        """What must not be."""
        for _, shared in self.records:
            key = object_key(shared)
            if key not in self.keys:
                return f"a record names {key}, which is gone"
            if self.times_created(key) > 1:
                return f"a record names {key}, which was created again"
        return None


# Who takes part


def writer(name: str, draws: bool = True) -> Iterator[Any]:
    names = iter(f"{name[1:]}{digit}" for digit in "abcdef")
    found = yield from share(OID, name, SHA256, SIZE, (lambda: next(names)) if draws else None)
    yield Commit(*found)


def slow(renews: bool = True) -> Iterator[Any]:
    """gc spares references of ONE, as it does young ones."""
    name, shared = yield from share(OID, "8" * 32, SHA256, SIZE, lambda: "9" * 32)
    if renews:
        try:
            name = yield from renew(OID, name, shared, lambda: ONE)
        except StoreError:
            yield Commit(ONE, None)
            return
    yield Commit(name, shared)


def aborting(name: str, steps: Callable[..., Any] = share) -> Iterator[Any]:
    """Its transaction is aborted when all is done: what it put under its own name goes, and nothing else."""
    references, answer = [], None
    running = steps(OID, name, SHA256, SIZE)
    while True:
        try:
            request = running.send(answer)
        except StopIteration:
            break
        if isinstance(request, Reference):
            references.append(request.key)
        answer = yield request
    yield Forget(tuple(references))
    yield Commit(name, None)


def restoring(name: str) -> Iterator[Any]:
    """A record that names generation 0 comes from elsewhere."""
    shared = shared_name(SHA256, 0)
    again = yield from share_again(OID, name, shared, SIZE)
    yield Commit(name, shared if again else None)


def listed(prefix: str) -> Iterator[Any]:
    found, after = [], ""
    while (key := (yield Next(prefix, after))) is not None:
        found.append(key)
        after = key
    return found


def one_round(marks_first: bool = True, marks_stay: bool = True, looks_again: bool = True) -> Iterator[Any]:
    """Plan and execution: the marks, the references, the database; then what follows."""
    marks: list[str] = []
    if marks_first:
        marks = yield from listed(CONDEMNED)
    references = yield from listed(BLOBS)
    if not marks_first:
        marks = yield from listed(CONDEMNED)
    names, writers = yield InUse()
    objects = yield from listed(OBJECTS)
    referred = {read_reference_key(key)[2] for key in references}
    for key in objects:
        shared = read_object_key(key)
        if shared in referred:
            continue
        if condemned_key(shared) not in marks:
            yield Mark(shared)
            if looks_again:
                continue
        yield Delete(key)
        if not marks_stay:
            yield Delete(condemned_key(shared))
    for key in references:
        name = read_reference_key(key)[1]
        if name not in names and writer_of(name) not in writers:
            yield Delete(key)


def collecting(rounds: int, **wrong: bool) -> Callable[[], Iterator[Any]]:
    def collect() -> Iterator[Any]:
        for _ in range(rounds):
            yield from one_round(**wrong)

    return collect


# Every order


class Walk:
    """All orders of the steps of ``actors``, each a name and what makes its generator anew.

    What an actor asks next follows from the answers it got, so a state is the world and these. ``killed``: actors that
    may be killed before and after each step, ``late``: those whose last request may be carried out at any time then.
    """

    def __init__(
        self,
        actors: dict[str, Callable[[], Iterator[Any]]],
        *,
        killed: tuple[str, ...] = (),
        late: tuple[str, ...] = (),
    ) -> None:
        self.actors = actors
        self.killed = killed
        self.late = late
        self._next: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self.states = 0
        self.ends: set[World] = set()

    def next_of(self, actor: str, answers: tuple[Any, ...]) -> Any:
        """Its next request; None: it has ended."""
        known = self._next.get((actor, answers), self)
        if known is not self:
            return known
        running = self.actors[actor]()
        try:
            request = next(running)
            for answer in answers:
                request = running.send(answer)
        except StopIteration:
            request = None
        self._next[actor, answers] = request
        return request

    def wrong(self, world: World) -> str | None:
        """The first thing that is wrong in any state; None: nothing is in any."""
        begin = (world, tuple((actor, ()) for actor in self.actors))
        seen, todo = {begin}, [begin]
        while todo:
            world, running = todo.pop()
            self.states += 1
            wrong = world.wrong()
            if wrong is not None:
                return wrong
            following = list(self._following(world, running))
            if not following:
                self.ends.add(world)
            for state in following:
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return None

    def _following(self, world: World, running: tuple[tuple[str, tuple[Any, ...]], ...]) -> Iterator[Any]:
        for place, (actor, answers) in enumerate(running):
            request = self.next_of(actor, answers)
            others = running[:place] + running[place + 1 :]
            if request is None:
                yield world, others
                continue
            after, answer = world.ask(request)
            yield after, (*running[:place], (actor, (*answers, answer)), *running[place + 1 :])
            if actor in self.killed:
                dead = replace(world, ended=world.ended | {actor})
                yield dead, others
                if actor in self.late:
                    yield replace(dead, late=(*dead.late, request)), others
            elif actor in self.late and isinstance(request, Delete | Mark):
                # It is sent, and no answer comes: who sent it goes on, and it is carried out at any time.
                hung = replace(world, late=(*world.late, request))
                if len(hung.late) == 1:
                    yield hung, (*running[:place], (actor, (*answers, None)), *running[place + 1 :])
        for number, request in enumerate(world.late):
            after, _ = world.ask(request)
            yield replace(after, late=world.late[:number] + world.late[number + 1 :]), running


EMPTY = World(frozenset())
UNUSED = EMPTY.put(H0)  # left by an abort
MARKED = UNUSED.put(condemned_key(shared_name(SHA256, 0)))
GONE = replace(MARKED, keys=MARKED.keys - {H0})
OUTLIVED = UNUSED.put(reference(OLD))  # of a revision that the database does not have any more
WORLDS = {"empty": EMPTY, "unused": UNUSED, "marked": MARKED, "gone": GONE, "outlived": OUTLIVED}


def rounds(begin: str, tier: Any) -> int:
    """Of garbage collection. Where a generation is marked writers have twice the steps, and ten times the orders."""
    return tier["sharing_rounds"] if begin in ("marked", "gone") else 2


@pytest.mark.parametrize("begin", WORLDS)
@pytest.mark.parametrize("second", [writer, aborting, restoring])
def test_no_order_of_steps_loses_bytes(begin, second, tier):
    walk = Walk({ONE: lambda: writer(ONE), TWO: lambda: second(TWO), "gc": collecting(rounds(begin, tier))})
    assert walk.wrong(WORLDS[begin]) is None
    assert any(world.records for world in walk.ends) and walk.states > 500


@pytest.mark.parametrize("late", [TWO, "gc"], ids=["of it", "of gc"])
@pytest.mark.parametrize("begin", WORLDS)
def test_nor_does_a_writer_that_is_killed_or_a_request_that_comes_late(begin, late, tier):
    actors = {ONE: lambda: writer(ONE), TWO: lambda: writer(TWO), "gc": collecting(rounds(begin, tier))}
    walk = Walk(actors, killed=(TWO,), late=(late,))
    assert walk.wrong(WORLDS[begin]) is None
    assert any(world.records for world in walk.ends)


def test_nor_does_an_upload_that_takes_longer_than_gc_waits():
    """All but its last reference are as old as those of a transaction which was aborted."""
    for begin, world in WORLDS.items():
        walk = Walk({ONE: slow, "gc": collecting(3)})
        assert walk.wrong(world) is None, begin
        assert any(end.records for end in walk.ends)
    hasty = Walk({ONE: lambda: slow(renews=False), "gc": collecting(3)})
    assert hasty.wrong(EMPTY) is not None


@pytest.mark.parametrize("begin", ["unused", "outlived", "marked"])
def test_nor_do_more_rounds(begin):
    walk = Walk({ONE: lambda: writer(ONE), "gc": collecting(4)}, late=("gc",))
    assert walk.wrong(WORLDS[begin]) is None
    ends = [world for world in walk.ends if not world.late]
    # Some writer came late enough to begin a new generation, and some was early enough to keep the old one.
    assert {read_shared_name(shared)[1] for world in ends for _, shared in world.records} >= (
        {1} if begin == "marked" else {0, 1}
    )


def test_an_unused_reference_that_cannot_be_deleted_goes_as_well():
    """A site need not have the right. Its name is no revision's, as another one was drawn."""
    world = MARKED.put(reference(ONE))
    walk = Walk({ONE: lambda: writer(ONE)})
    assert walk.wrong(world) is None
    [end] = walk.ends
    stays = replace(end, keys=end.keys | {reference(ONE)})
    after = Walk({"gc": collecting(2)})
    assert after.wrong(stays) is None
    [end] = after.ends
    assert reference(ONE) not in end.keys and H0 not in end.keys and len(end.records) == 1


def test_what_nobody_uses_goes_in_the_end():
    walk = Walk({TWO: lambda: aborting(TWO), "gc": collecting(3)}, killed=(TWO,))
    assert walk.wrong(EMPTY) is None
    # Whenever the writer ended, three more rounds leave marks at most.
    for world in walk.ends:
        after = Walk({"gc": collecting(3)})
        assert after.wrong(replace(world, ended=world.ended | {ONE, TWO})) is None
        [end] = after.ends
        assert all(key.startswith(CONDEMNED) for key in end.keys)


def test_who_restores_leaves_no_reference_to_what_is_given_up():
    walk = Walk({TWO: lambda: restoring(TWO)})
    assert walk.wrong(MARKED) is None
    assert {world.keys for world in walk.ends} == {MARKED.keys}


# The same with a mistake in it: each must be found


def looks_first(oid: bytes, name: str, sha256: bytes, size: int) -> Iterator[Any]:
    marked = yield Marks(sha256)
    shared = shared_name(sha256, max(marked, default=-1) + 1 if 0 in marked else 0)
    yield Reference(reference_key(oid, name, shared), oid)
    yield from fill(shared, size)
    return name, shared


def looks_once(oid: bytes, name: str, sha256: bytes, size: int) -> Iterator[Any]:
    """Not again, after the reference to another generation."""
    yield Reference(reference_key(oid, name, shared_name(sha256, 0)), oid)
    marked = yield Marks(sha256)
    shared = shared_name(sha256, max(marked) + 1 if 0 in marked else 0)
    yield Reference(reference_key(oid, name, shared), oid)
    yield from fill(shared, size)
    return name, shared


def no_reference(oid: bytes, name: str, sha256: bytes, size: int) -> Iterator[Any]:
    marked = yield Marks(sha256)
    shared = shared_name(sha256, max(marked, default=-1) + 1 if 0 in marked else 0)
    yield from fill(shared, size)
    return name, shared


def begins_again(oid: bytes, name: str, sha256: bytes, size: int) -> Iterator[Any]:
    """The generation that is marked, where the object has gone."""
    _, shared = yield from reserve(oid, name, sha256)
    if shared != shared_name(sha256, 0) and (yield Look(H0)) is None:
        shared = shared_name(sha256, 0)
        yield Reference(reference_key(oid, name, shared), oid)
    yield from fill(shared, size)
    return name, shared


def takes_the_object_along(oid: bytes, name: str, sha256: bytes, size: int) -> Iterator[Any]:
    """Its abort deletes what it created."""
    _, shared = yield from reserve(oid, name, sha256)
    there = yield Look(object_key(shared))
    yield from fill(shared, size)
    if there is None:
        yield Delete(object_key(shared))


def committing(steps: Callable[..., Any]) -> Callable[[], Iterator[Any]]:
    def commit() -> Iterator[Any]:
        name, shared = yield from steps(OID, ONE, SHA256, SIZE)
        yield Commit(name, shared)

    return commit


@pytest.mark.parametrize("steps", [looks_first, looks_once, no_reference, begins_again])
def test_a_writer_with_a_mistake_is_found(steps):
    found = {
        begin: Walk({ONE: committing(steps), TWO: lambda: aborting(TWO), "gc": collecting(3)}).wrong(world)
        for begin, world in WORLDS.items()
    }
    assert any(found.values()), found


def test_an_abort_that_takes_the_object_along_is_found():
    walk = Walk({ONE: lambda: writer(ONE), TWO: lambda: aborting(TWO, takes_the_object_along)})
    assert walk.wrong(EMPTY) is not None


@pytest.mark.parametrize("mistake", ["marks_first", "marks_stay", "looks_again"])
def test_a_collection_with_a_mistake_is_found(mistake):
    found = {
        begin: Walk({ONE: lambda: writer(ONE), "gc": collecting(3, **{mistake: False})}, late=("gc",)).wrong(world)
        for begin, world in WORLDS.items()
    }
    assert any(found.values()), found
