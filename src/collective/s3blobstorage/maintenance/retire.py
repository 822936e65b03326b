"""Whether a key may be retired: nothing that the bucket keeps needs it, and no source of the configuration does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from ..encryption.register import Entry
from ..encryption.ring import KeyRing
from ..errors import Refused, UnsafeError
from ..objectstore.interfaces import IObjectStore
from .findings import Count
from .usage import Failures, Listing, Usage, listed


def all_that_is_kept(
    store: IObjectStore, stop: threading.Event, advance: Callable[[int], None] = lambda count: None
) -> Listing:
    """List every object, and of a bucket that keeps versions all of them: one that is brought back has to open.

    Raises Stopped, and Refused where the credentials may not list versions, or not ask whether there are any.
    """
    keeps = store.keeps_versions()
    if keeps is False:
        return listed(store, stop, advance=advance)
    try:
        return listed(store, stop, versions=True, advance=advance)
    except Refused:
        what = "The bucket keeps versions" if keeps else "It is not known whether the bucket keeps versions"
        raise Refused(
            f"{what}, which may need the key, and the object store refuses to list them"
            " (s3:GetBucketVersioning, s3:ListBucketVersions, s3:GetObjectVersion)."
        ) from None


def refuse_needed(id: str, usage: Usage, failures: Failures) -> None:
    """Raise UnsafeError where anything needs the key, or may."""
    needed = usage.of_key(id)
    if needed:
        raise UnsafeError(f"the key {id} is needed by {_amounts(needed)}: {_mend(needed)}")
    if failures.count:
        first = failures.first[0]
        raise UnsafeError(
            f"{failures.count:,} objects could not be looked at and may need the key {id}, the first {first['key']}:"
            f" {first['reason'].rstrip('.')}. Give zope.conf back the keys that they need, or the credentials"
            " s3:GetObject"
        )


def _amounts(needed: dict[str, Count]) -> str:
    names = {
        "content": "objects",
        "beside": "objects that this package keeps beside the blobs",
        "past": "former versions that the bucket keeps",
    }
    return " and ".join(f"{count.blobs:,} {names[what]}" for what, count in needed.items())


def _mend(needed: dict[str, Count]) -> str:
    if needed.keys() == {"past"}:
        return "they go with `s3blobs gc --versions`, gc-keep after they were overwritten"
    return "run `s3blobs keys rotate`, with --convert where they are of another mode, and then this again"


def refuse_source(entry: Entry, sources: Iterable[tuple[str, KeyRing]]) -> None:
    """Raise UnsafeError where a source's ring has that very key: what is there, this site still reads with it.

    ``sources``: name and ring of each that has one. Reads the keys of that id. A key of the same id that is another
    one (its version tells) is no reason.
    """
    for name, ring in sources:
        if entry.id in ring.providers and ring.key(entry.id).version == entry.version:
            raise UnsafeError(
                f"the source {name} has the key {entry.id} too, and its objects are read with it: run `s3blobs mirror`"
                " and take the source out of zope.conf, or change that site's key first"
            )
