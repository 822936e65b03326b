"""The bucket's CORS rules: what a browser that uploads would be refused under them, and one rule that lets it. Pure.

A rule is a plain dict of the protocol: ``AllowedOrigins``, ``AllowedMethods``, ``AllowedHeaders``, ``ExposeHeaders``,
``MaxAgeSeconds``, ``ID``. Source: Amazon S3 User Guide, "Elements of a CORS configuration" and "How does Amazon S3
evaluate the CORS configuration on a bucket": the first rule counts that matches the origin, the method, and every
header that the browser asked for; an origin or a header of a rule may have one ``*``. Fetch Standard, "CORS protocol":
what the browser makes of the answer.

Our rule is the first one. Of the requests that others make it takes none away from their rules: it matches only its
own origins, two methods, and the headers of signed uploads. Ceph looks only at the first rule that names an origin,
whatever the method (measured on 16.2.15): see ``overshadowed``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .interfaces import Difference

Rule = Mapping[str, Any]

ID = "collective.s3blobstorage"
METHODS = ("PUT", "POST")
# With it a page knows which parts it has sent; without, no library puts an upload of parts together.
EXPOSED = "ETag"
MAX_AGE = 3600  # seconds for which a browser does not ask again; browsers cap it at two hours and less
MOST_RULES = 100  # of a bucket


def refused(rules: Sequence[Rule], origins: Iterable[str], headers: Iterable[str]) -> list[str]:
    """A sentence for each thing that a browser would not be let do. ``headers``: of a signed PUT, by their names."""
    wanted = frozenset(header.lower() for header in headers)
    found = []
    for origin in origins:
        of_origin = [rule for rule in rules if _names_origin(rule, origin)]
        if not of_origin:
            found.append(f"pages of {origin} may send nothing")
            continue
        for method in METHODS:
            able = [rule for rule in of_origin if method in rule.get("AllowedMethods", ())]
            if not able:
                found.append(f"pages of {origin} may not send by {method}")
            elif method == "PUT":
                # Those of the rule that lets pass most, since one rule has to let all pass.
                missing = min((sorted(_missing(rule, wanted)) for rule in able), key=len)
                found += [f"pages of {origin} may not send the header {name}" for name in missing]
                if not _exposes(able[0]):
                    found.append(f"pages of {origin} do not see the header {EXPOSED} of an answer")
    return found


def difference(present: Sequence[Rule], origins: Sequence[str], headers: Sequence[str]) -> Difference:
    """What the rules lack, and what they would be. Raises ConfigurationError where there is no room for one more.

    Rules of others stay as they are, in their order. Ours keeps the origins that it has: another site, whose prefix is
    in the same bucket, may have put them there. A ``*`` does not stay in it.
    """
    rules = tuple(dict(rule) for rule in present)
    missing = refused(rules, origins, headers)
    ours = [rule for rule in rules if rule.get("ID") == ID]
    if not missing and not any(_is_wide(rule) for rule in ours):
        return Difference(rules, rules)
    theirs = others(rules)
    if len(theirs) >= MOST_RULES:
        raise ConfigurationError(
            f"the bucket has {len(theirs)} CORS rules, and can have {MOST_RULES}: remove one that nobody needs"
        )
    kept = [origin for rule in ours for origin in rule.get("AllowedOrigins", ()) if "*" not in origin]
    sent = [name.lower() for rule in ours for name in rule.get("AllowedHeaders", ()) if "*" not in name]
    allowed = sorted({*kept, *origins})
    if not allowed:  # there was nothing in it but a *
        return Difference(rules, tuple(theirs), tuple(missing))
    rule = {
        "ID": ID,
        "AllowedOrigins": allowed,
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": sorted({*sent, *(name.lower() for name in headers)}),
        "ExposeHeaders": [EXPOSED],
        "MaxAgeSeconds": MAX_AGE,
    }
    return Difference(rules, (rule, *theirs), tuple(missing))


def first_match(rules: Iterable[Rule], origin: str, method: str, headers: Iterable[str] = ()) -> Rule | None:
    """The rule by which a store answers: a preflight with these headers, or the request itself without any."""
    names = frozenset(name.lower() for name in headers)
    for rule in rules:
        if _names_origin(rule, origin) and method in rule.get("AllowedMethods", ()) and not _missing(rule, names):
            return rule
    return None


def others(rules: Iterable[Rule]) -> list[Rule]:
    """Those that are not ours, in their order."""
    return [rule for rule in rules if rule.get("ID") != ID]


def overshadowed(present: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Rules of others that name an origin of ours: on Ceph they do not count for it any more, since ours is first."""
    ours = [origin for rule in wanted if rule.get("ID") == ID for origin in rule["AllowedOrigins"]]
    return [rule for rule in present if rule.get("ID") != ID and any(_names_origin(rule, origin) for origin in ours)]


def _names_origin(rule: Rule, origin: str) -> bool:
    return any(_matches(pattern, origin) for pattern in rule.get("AllowedOrigins", ()))


def _missing(rule: Rule, headers: Iterable[str]) -> set[str]:
    patterns = [pattern.lower() for pattern in rule.get("AllowedHeaders", ())]
    return {name for name in headers if not any(_matches(pattern, name) for pattern in patterns)}


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _exposes(rule: Rule) -> bool:
    # Of a request without cookies a browser takes * for every header.
    return any(name == "*" or name.lower() == EXPOSED.lower() for name in rule.get("ExposeHeaders", ()))


def _is_wide(rule: Rule) -> bool:
    return any("*" in text for name in ("AllowedOrigins", "AllowedHeaders") for text in rule.get(name, ()))
