"""The bucket's lifecycle rules: ours beside those of others, and what rules of others do to blobs. Pure.

A rule is a plain dict of the protocol: ``ID``, ``Status``, ``Filter`` and what is done. Source: Amazon S3 User Guide,
"Lifecycle configuration elements". Ours are known by their IDs, which name the prefix: several sites may share
a bucket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..datatypes import ARCHIVES
from ..errors import ConfigurationError
from ..keys import BLOBS, CONDEMNED, CONTROL, KEYS, MANIFESTS, MARKER, MIRRORED, OBJECTS, UPLOADS

Rule = Mapping[str, Any]

UNFINISHED = "unfinished uploads"
VERSIONS = "old versions"
CLASSES = "storage classes"
SHARED = "storage classes of shared objects"
KINDS = (UNFINISHED, VERSIONS, CLASSES, SHARED)

MOST_RULES = 1000  # of a bucket
LONGEST_ID = 255  # characters

# Without these blobs are lost, or nobody knows any more whose they are and what opens them. What lies below other
# folders is written anew, was never completed, or is an add-on's affair.
_NEEDED = (BLOBS, OBJECTS, CONDEMNED, KEYS, CONTROL, MANIFESTS, MARKER, MIRRORED)


@dataclass(frozen=True)
class Wishes:
    """What our rules shall be. Of a kind that is neither set nor removed, the rule that is there stays.

    ``unfinished``: days after which the store ends a multipart upload that nobody completed. ``noncurrent``: days after
    which it deletes a version that is not the current one. ``classes``: (storage class, days) that a blob goes through.
    ``shared``: the prefix has shared objects (``dedup``), which go through the same classes; a rule is for one folder.
    ``remove``: kinds whose rule goes.
    """

    unfinished: int | None = None
    noncurrent: int | None = None
    classes: tuple[tuple[str, int], ...] = ()
    remove: frozenset[str] = frozenset()
    shared: bool = False


@dataclass(frozen=True)
class Difference:
    """The rules that are there, and those that are wanted: the same where nothing is to be done."""

    present: tuple[Rule, ...]
    wanted: tuple[Rule, ...]

    @property
    def is_needed(self) -> bool:
        return self.present != self.wanted


def rule_id(kind: str, prefix: str) -> str:
    """By what ours is known. ``prefix``: of the storage, "" the bucket's root."""
    id = f"collective.s3blobstorage: {kind} of {prefix or 'the bucket'}"
    if len(id) <= LONGEST_ID:
        return id
    # Two long prefixes may begin alike: the one's rule must not be taken for the other's.
    return f"{id[: LONGEST_ID - 33]} {hashlib.sha256(prefix.encode()).hexdigest()[:32]}"


def our_rule(kind: str, prefix: str, wishes: Wishes) -> Rule:
    """The rule of that kind. Raises KeyError where nothing of it is wished."""
    base = f"{prefix}/" if prefix else ""
    rule: dict[str, Any] = {"ID": rule_id(kind, prefix), "Status": "Enabled", "Filter": {"Prefix": base}}
    if kind == UNFINISHED and wishes.unfinished is not None:
        rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": wishes.unfinished}
    elif kind == VERSIONS and wishes.noncurrent is not None:
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": wishes.noncurrent}
        # A marker under which no version is left only slows listings down.
        rule["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    elif wishes.classes and (kind == CLASSES or (kind == SHARED and wishes.shared)):
        # Blobs alone: ledger, markers and manifests are small, written often and read at each start.
        rule["Filter"] = {"Prefix": base + (BLOBS if kind == CLASSES else OBJECTS)}
        by_days = sorted(wishes.classes, key=lambda each: each[1])
        rule["Transitions"] = [{"Days": days, "StorageClass": name} for name, days in by_days]
    else:
        raise KeyError(kind)
    return rule


def difference(present: Sequence[Rule], prefix: str, wishes: Wishes) -> Difference:
    """What the bucket's rules would be. Rules of others stay as they are, in their order, and ours come behind them.

    Raises ConfigurationError where there is no room for one more.
    """
    rules = tuple(dict(rule) for rule in present)
    ours = {rule.get("ID"): rule for rule in rules}
    wanted: list[Rule] = list(others(rules, prefix))
    for kind in KINDS:
        id = rule_id(kind, prefix)
        if kind in wishes.remove:
            continue
        try:
            rule = our_rule(kind, prefix, wishes)
        except KeyError:
            if id not in ours:
                continue
            rule = ours[id]
        if id in ours and does_the_same(rule, ours[id]):
            rule = ours[id]  # as the store writes it
        wanted.append(rule)
    if len(wanted) > max(MOST_RULES, len(rules)):
        raise ConfigurationError(
            f"the bucket has {len(rules)} lifecycle rules, and can have {MOST_RULES}: remove one that nobody needs"
        )
    if sorted(map(_order, wanted)) == sorted(map(_order, rules)):
        return Difference(rules, rules)
    return Difference(rules, tuple(wanted))


def others(rules: Iterable[Rule], prefix: str) -> list[Rule]:
    """Those that are not ours, in their order; another prefix's are not ours."""
    ids = {rule_id(kind, prefix) for kind in KINDS}
    return [rule for rule in rules if rule.get("ID") not in ids]


def ours(rules: Iterable[Rule], prefix: str) -> dict[str, Rule]:
    """Those that are, by their kind."""
    by_id = {rule.get("ID"): rule for rule in rules}
    return {kind: by_id[rule_id(kind, prefix)] for kind in KINDS if rule_id(kind, prefix) in by_id}


def does_the_same(one: Rule, other: Rule) -> bool:
    """Whether two rules say the same, however the store writes them: with ``Filter`` or, as it was until 2016, not."""
    return _normal(one) == _normal(other)


def dangers(rules: Iterable[Rule], prefix: str, upload_days: float) -> Iterator[str]:
    """A sentence for each rule of others under which a blob is lost or cannot be read. ``upload_days``: for so long a
    browser may go on with an upload."""
    base = f"{prefix}/" if prefix else ""
    for rule in others(rules, prefix):
        if rule.get("Status") != "Enabled" or _has_tags(rule):
            continue  # no object of ours has a tag
        where = _prefix(rule)
        name = f"the rule {rule['ID']!r}" if rule.get("ID") else "a rule without a name"
        below = where or "everything"
        days = (rule.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation")
        if days is not None and days < upload_days and _meet(where, base + UPLOADS):
            yield f"{name} ends unfinished uploads ({below}) after {_days(days)}, before a browser must be done"
        if not any(_meet(where, base + needed) for needed in _NEEDED):
            continue
        expiration = rule.get("Expiration") or {}
        if "Days" in expiration or "Date" in expiration:
            when = f"after {_days(expiration['Days'])}" if "Days" in expiration else f"on {expiration['Date']}"
            yield f"{name} deletes blobs or what belongs to them ({below}) {when}"
        for move in rule.get("Transitions") or ():
            if move.get("StorageClass") in ARCHIVES:
                yield f"{name} moves blobs ({below}) to {move['StorageClass']}, where they cannot be read"


def _meet(one: str, other: str) -> bool:
    """Whether a key can begin with both."""
    return one.startswith(other) or other.startswith(one)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _order(rule: Rule) -> str:
    return repr(sorted(_normal(rule).items(), key=repr))


def _normal(rule: Rule) -> dict[str, Any]:
    left = {name: value for name, value in rule.items() if name not in ("Filter", "Prefix")}
    kept = rule.get("Filter") or {}
    return {**left, "where": _prefix(rule), "filter": kept if set(kept) - {"Prefix"} else {}}


def _prefix(rule: Rule) -> str:
    kept = rule.get("Filter") or {}
    return str((kept.get("And") or {}).get("Prefix") or kept.get("Prefix") or rule.get("Prefix") or "")


def _has_tags(rule: Rule) -> bool:
    kept = rule.get("Filter") or {}
    return bool(kept.get("Tag") or (kept.get("And") or {}).get("Tags"))
