"""Blobs that can be read before anything was copied for them: what was uploaded directly, while a form looks at it.

``attach`` copies inside the store, and makes the blob a part of the transaction. A form cannot do that with what it was
sent: it may be shown again, and Zope commits then. So its blob is lent what is staged: reading asks for ranges of it,
and all else waits until the blob's value is set on content. That costs nothing, and leaves nothing behind.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, BinaryIO

from ZODB.blob import Blob, BlobError

from .attaching import attach, discard

if TYPE_CHECKING:
    from ..directupload.interfaces import IStagedObject

NOT_ATTACHED = (
    "a file that was uploaded directly was saved without its data manager: set it with"
    " getMultiAdapter((content, field), IDataManager).set(value), as z3c.form does; see docs/addons.md"
)


def lend(blob: Blob, staged: IStagedObject) -> None:
    """Let a new blob be read from what is staged, until ``attach_lent``, or until it is written.

    For the thread that has the blob; no request to the store. A blob that is stored with what it was lent is refused
    with BlobError, at the savepoint or commit: never is an empty file stored in its place. Raises BlobError where the
    blob is open, or has a connection.
    """
    if blob.opened() or blob._p_jar is not None:
        raise BlobError("only a new blob that is not open can be lent a file")
    discard(blob)
    # Methods of the class, and Blob allows no subclass. Its record has nothing of them.
    vars(blob).update(open=_Opening(blob, staged), _uncommitted=_Storing(blob))


def lent(blob: Blob) -> Any:
    """What it reads, an ``IStagedObject``; None where it was lent nothing, or has a file of its own by now."""
    opening = vars(blob).get("open")
    if not isinstance(opening, _Opening) or blob._p_blob_uncommitted is not None:  # ``consumeFile`` put a file there
        return None
    return opening.staged


def attach_lent(blob: Blob, connection: Any) -> bool:
    """``attach`` what it was lent; whether it was lent something. Raises as ``attach``; then abort the transaction."""
    staged = lent(blob)
    if staged is None:
        return False
    _take_back(blob)
    attach(blob, connection, staged)
    return True


def _take_back(blob: Blob) -> None:
    vars(blob).pop("open", None)
    vars(blob).pop("_uncommitted", None)


class _Opening:
    """``open`` of a blob that was lent something."""

    def __init__(self, blob: Blob, staged: IStagedObject) -> None:
        self._blob = weakref.ref(blob)
        self.staged = staged

    def __call__(self, mode: str = "r") -> BinaryIO:
        blob = self._blob()
        assert blob is not None  # it is asked for by its attribute
        staged = lent(blob)
        if staged is not None and mode == "r":
            # Its reader holds on to the object, not to the blob: it may stay open while the blob is attached.
            return staged.open()
        if mode != "c":
            _take_back(blob)
        if staged is not None and mode in ("r+", "a"):
            with Blob.open(blob, "w") as file:
                staged.download(file)
        return Blob.open(blob, mode)


class _Storing:
    """``_uncommitted`` of it, which ZODB asks for the file to be stored."""

    def __init__(self, blob: Blob) -> None:
        self._blob = weakref.ref(blob)

    def __call__(self) -> str | None:
        blob = self._blob()
        assert blob is not None
        if lent(blob) is not None:
            raise BlobError(NOT_ATTACHED)
        _take_back(blob)
        return Blob._uncommitted(blob)
