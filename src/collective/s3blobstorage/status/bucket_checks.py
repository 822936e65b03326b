"""What a check asks of the bucket as a whole: does a rule that others set harm the blobs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..datatypes import DAY
from ..errors import Refused, StoreError, Unavailable
from ..maintenance.lifecycle import dangers
from ..messages import one_line
from ..objectstore import S3ObjectStore
from ..settings import StorageSettings
from .local_checks import Result


def bucket_checks(
    settings: StorageSettings, store: S3ObjectStore, why_not: str = ""
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The name of each check and what makes it. ``why_not``: the bucket cannot be read."""

    def lifecycle() -> Result:
        if why_not:
            return None, why_not, ""
        try:
            rules = store.lifecycle()
        except Unavailable:
            raise
        except Refused:
            return None, "not tried: these credentials may not read them (s3:GetLifecycleConfiguration)", ""
        except StoreError as error:
            return None, one_line(error), ""
        harm = list(dangers(rules, settings.store.prefix, settings.uploads.expiry / DAY))
        if harm:
            return False, "; ".join(harm), "have that rule removed from the bucket, or kept to other keys"
        number = "1 rule, which does" if len(rules) == 1 else f"{len(rules)} rules, which do"
        return True, f"{number} not harm blobs" if rules else "the bucket has no rules", ""

    def dedup() -> Result:
        # What the preflight measured before; what is known of the provider where nothing may be written.
        keeps = store.provider.value("conditional_writes")
        if why_not or keeps is None:
            return None, why_not or "not tried: whether the object store keeps If-None-Match was not measured", ""
        if keeps:
            return True, "the object store keeps If-None-Match, so that equal blobs can share an object", ""
        return (
            False,
            "the object store ignores If-None-Match: no process that may write starts with dedup on",
            "dedup off",
        )

    yield "lifecycle", lifecycle
    if settings.dedup:
        yield "dedup", dedup
