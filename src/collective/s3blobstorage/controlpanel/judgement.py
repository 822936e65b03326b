"""One look: are the files safe, are they served fast, and what is to be done next? From a status document. Pure.

A judgement says only what the document shows: what nobody looked at yet is "not known", never "good".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .messages import _
from .words import Words, moment_of

GOOD, UNKNOWN, LOOK, BAD = "good", "unknown", "look", "bad"  # in the order in which one outweighs the other
_WEIGHT = {GOOD: 0, UNKNOWN: 1, LOOK: 2, BAD: 3}

# Of fewer reads a rate says nothing: after a start each of them is the first.
LEAST_READS = 50
# Below the first, most of Plone's pages wait for the bucket; between the two some do.
POOR_RATE, FAIR_RATE = 0.6, 0.9
FULL = 0.9  # of the cache's bound; a cache with room left is not made better by more
SLOW = 1.0  # seconds to the first byte, for one of twenty requests
LEAST_REQUESTS = 20  # of fewer, one slow one would be one of twenty
ERRORS = 0.01  # of all requests
LEAST_FOR_ERRORS = 200  # requests: a start alone makes some twenty, and one of them may fail and be repeated
CHECK_AGE = timedelta(days=30)  # of a check that still says something


@dataclass(frozen=True, slots=True)
class Sign:
    """``text``: what is so. ``advice``: what to do, None where nothing is. Both are messages."""

    level: str
    text: Any
    advice: Any = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """``safe`` and ``fast``: what weighs most of each comes first."""

    safe: tuple[Sign, ...]
    fast: tuple[Sign, ...]

    @property
    def level(self) -> str:
        return max((self.safe[0].level, self.fast[0].level), key=_WEIGHT.__getitem__)

    @property
    def advice(self) -> list[Any]:
        """What to do next, the most urgent first."""
        return [sign.advice for sign in _weighed([*self.safe, *self.fast]) if sign.advice is not None]


def judge(document: Mapping[str, Any], words: Words, now: datetime) -> Judgement:
    """``document``: as ``IStatus`` gives it, or what is left of it for who may see less."""
    safe = _weighed(_safety(document, words, now)) or [Sign(GOOD, _WELL)]
    fast = _weighed(_speed(document, words))
    return Judgement(tuple(safe), tuple(fast))


def _weighed(signs: Any) -> list[Sign]:
    return sorted(signs, key=lambda sign: -_WEIGHT[sign.level])


# Safe


def _safety(document: Mapping[str, Any], words: Words, now: datetime) -> Iterator[Sign]:
    if document.get("reachable") is False:
        yield Sign(
            BAD,
            _("The bucket does not answer. Only files that this server keeps a copy of can be shown."),
            _("Look at the network and the store; “Check now” says what is wrong."),
        )
    yield from _of_the_check(document, words, now)
    yield from _of_the_keys(document, words)
    yield from _of_the_fsck(document, words)
    outside = document.get("outside") or {}
    if outside.get("objects"):
        yield Sign(
            LOOK,
            _(
                "Files that are not in the bucket yet, only in a source behind it: ${count}.",
                mapping={"count": words.number(outside["objects"])},
            ),
            _("Start the job “Copy from the sources” before a source is switched off."),
        )
    elif document.get("sources") and not document.get("outside") and not document.get("mirrored"):
        yield Sign(
            UNKNOWN,
            _("Nobody has counted yet how many files are only in a source behind the bucket."),
            _("Start the job “Count”."),
        )
    store = document.get("store")
    if store and store.get("owner") is None:
        yield Sign(
            LOOK,
            _("zope.conf does not say whose bucket this is, so nothing that is not needed any more is deleted."),
            _("Set owner in zope.conf, for example: owner production"),
        )


def _of_the_check(document: Mapping[str, Any], words: Words, now: datetime) -> Iterator[Sign]:
    check = document.get("check")
    if not check:
        yield Sign(
            UNKNOWN,
            _("Nobody has tried yet whether the store does all that it must."),
            _("“Check now” tries it within seconds."),
        )
        return
    at = moment_of(check["at"])
    wrong = [finding for finding in check.get("findings") or () if finding["ok"] is False]
    if check["ok"] is False:
        yield Sign(
            BAD,
            _("The last check found something to mend: ${what}.", mapping={"what": _names(wrong)})
            if wrong
            else _("The last check found something to mend."),
            _("See “Health” below: each finding names the setting to change."),
        )
    elif at is not None and now - at > CHECK_AGE:
        yield Sign(
            UNKNOWN,
            _("The last check was ${when}.", mapping={"when": words.ago(at)}),
            _("“Check now” tries it within seconds."),
        )


def _names(findings: list[Mapping[str, Any]]) -> str:
    return ", ".join(finding["name"] for finding in findings)


def _of_the_fsck(document: Mapping[str, Any], words: Words) -> Iterator[Sign]:
    if document.get("jobs") is None:  # not known, or not for this user
        return
    last = document.get("fsck")
    if last is None:
        yield Sign(
            UNKNOWN,
            _("Nobody has looked yet whether every file is in the bucket."),
            _("Start the job “Check every file”."),
        )
    elif last["wrong"] or last["earlier"]:
        yield Sign(
            BAD,
            _(
                "Files that are missing or damaged: ${count}.",
                mapping={"count": words.number(last["wrong"] + last["earlier"])},
            ),
            _("Look at the last job “Check every file” (“Long work” below): it names them, and says what can be done."),
        )


def _of_the_keys(document: Mapping[str, Any], words: Words) -> Iterator[Sign]:
    encryption = document.get("encryption") or {}
    for key in encryption.get("keys") or ():
        if not key["in_configuration"] and key["state"] != "retired":
            needed = key.get("objects")
            yield Sign(
                BAD if needed else LOOK,
                _(
                    "zope.conf does not have the key ${key}. Files that need it: ${count}.",
                    mapping={"key": key["id"], "count": words.number(needed)},
                )
                if needed
                else _("zope.conf does not have the key ${key}, which files may need.", mapping={"key": key["id"]}),
                _("Put the key ${key} back into zope.conf.", mapping={"key": key["id"]}),
            )
        if key["writes"] and is_old(key, encryption):
            yield Sign(
                LOOK,
                _(
                    "The key that encrypts the files is ${days} days old.",
                    mapping={"days": words.number(key["age_days"])},
                ),
                _("Make a new key active, then start the job “Change keys”."),
            )
    if encryption.get("error"):
        yield Sign(LOOK, _("What the bucket knows of the keys cannot be read."), _("See “Encryption” below."))


def is_old(key: Mapping[str, Any], encryption: Mapping[str, Any]) -> bool:
    """Whether it is past zope.conf's ``key-max-age``, where the document tells it."""
    bound = encryption.get("key_max_age")
    return bool(bound) and key.get("age_days") is not None and key["age_days"] * 86400 > bound


_WELL = _("The files are in the bucket, and the last check found nothing to mend.")


# Fast


def _speed(document: Mapping[str, Any], words: Words) -> Iterator[Sign]:
    yield from _of_the_cache(document.get("cache") or {}, words)
    requests = (document.get("requests") or {}).get("all") or {}
    count, errors = requests.get("requests") or 0, requests.get("errors") or 0
    if count >= LEAST_FOR_ERRORS and errors / count > ERRORS:
        yield Sign(
            LOOK,
            _(
                "${share} of the requests to the bucket failed.",
                mapping={"share": words.share(errors / count)},
            ),
            _("Ask who runs the store; meanwhile “Check now” says what does not work."),
        )
    slow = requests.get("p95")
    if count >= LEAST_REQUESTS and slow is not None and slow > SLOW:
        yield Sign(
            LOOK,
            _("One request of twenty to the bucket takes longer than ${time}.", mapping={"time": words.seconds(slow)}),
            _("Is the store in a region near this server?"),
        )


def _of_the_cache(cache: Mapping[str, Any], words: Words) -> Iterator[Sign]:
    span, text = _reads(cache)
    if span is None:
        yield Sign(UNKNOWN, _("Too few files were read lately to say how fast they come."))
        return
    rate = span["hits"] / (span["hits"] + span["misses"])
    said = _(text, mapping={"share": words.share(rate)})
    if rate >= FAIR_RATE:
        yield Sign(GOOD, said)
        return
    used, bound = cache.get("used"), cache.get("bound")
    full = bool(used and bound and used / bound >= FULL)
    yield Sign(
        LOOK if rate < POOR_RATE or full else GOOD,
        said,
        _("The cache is full: set a larger cache-size in zope.conf.")
        if full
        else _("Nothing to do if this server was set up lately: its cache fills as files are read.")
        if rate < POOR_RATE
        else None,
    )


def _reads(cache: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, Any]:
    """The last hour where it had reads enough, else the last day, else nothing."""
    for name in ("hour", "day"):
        span = cache.get(name)
        if span and span["hits"] + span["misses"] >= LEAST_READS:
            return span, _OF_THE_HOUR if name == "hour" else _OF_THE_DAY
    return None, None


_OF_THE_HOUR = _("In the last hour ${share} of the files that were read came from this server’s own disk.")
_OF_THE_DAY = _("In the last day ${share} of the files that were read came from this server’s own disk.")
