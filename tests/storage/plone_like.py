"""Databases with records as Plone writes them, by classes that nobody can import afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from sites import connected
from ZODB.blob import Blob

_CONTENT = "vanished.addon"
_HISTORY = "Products.CMFEditions.vanished"


@contextmanager
def classes() -> Iterator[SimpleNamespace]:
    """``Item``, ``Folder``, ``File`` (a field) and ``Version``, importable until this is left; making one counts in
    ``made``, also when ZODB does."""
    made: list[str] = []

    def count(self: Any, state: Any) -> None:
        made.append(type(self).__name__)
        Persistent.__setstate__(self, state)

    modules = {name: ModuleType(name) for name in ("vanished", _CONTENT, _HISTORY)}
    kinds = {}
    for name, module in (("Item", _CONTENT), ("Folder", _CONTENT), ("File", _CONTENT), ("Version", _HISTORY)):
        kinds[name] = type(name, (Persistent,), {"__module__": module, "__setstate__": count})
        setattr(modules[module], name, kinds[name])
    sys.modules.update(modules)
    try:
        yield SimpleNamespace(**kinds, made=made)
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def made(kind: Any, **state: Any) -> Any:
    found = kind()
    found.__dict__.update(state)
    return found


def blob(data: bytes) -> Blob:
    found = Blob()
    with found.open("w") as file:
        file.write(data)
    return found


def field(kinds: Any, data: bytes) -> Any:
    return made(kinds.File, _blob=blob(data), filename="f.bin", contentType="text/plain")


def folder(kinds: Any, id: str, **items: Any) -> Any:
    return made(kinds.Folder, id=id, portal_type="Folder", _tree=OOBTree(items))


def file(kinds: Any, id: str, data: bytes, **more: Any) -> Any:
    return made(kinds.Item, id=id, portal_type="File", file=field(kinds, data), **more)


def fill(db: Any, kinds: Any, many: int = 0) -> None:
    """A site with a file in a folder, an image with scales, a portlet, a version, indexes that know all of them, a
    deleted file, one without a container, and ``many`` files in one large folder."""
    with connected(db) as connection:
        kept = file(kinds, "kept", b"kept")
        scales = PersistentMapping({"b0a7": {"uid": "b0a7", "data": field(kinds, b"scale")}})
        picture = made(
            kinds.Item,
            id="picture",
            portal_type="Image",
            image=field(kinds, b"picture"),
            __annotations__=OOBTree({"plone.scale": scales}),
        )
        going = file(kinds, "going", b"going")
        site = folder(kinds, "Plone", files=folder(kinds, "files", kept=kept, picture=picture, going=going))
        site.portlet = made(kinds.Item, __name__="logo", __parent__=site, logo=field(kinds, b"logo"))
        large = OOBTree()
        site._tree["large"] = made(kinds.Folder, id="large", portal_type="Folder", _tree=large)
        for number in range(many):
            large[f"f{number}"] = file(kinds, f"f{number}", b"%d" % number)
        # As a catalog and intids have them: by number, or as a key.
        site.catalog = IOBTree({1: kept, 2: picture, 3: site._tree["files"]})
        clone = file(kinds, "kept", b"version")
        site.versions = made(kinds.Version, data=IOBTree({0: clone}))
        application = made(kinds.Folder, Plone=site, lost=[file(kinds, "nowhere", b"lost")])
        connection.root()["Application"] = application
        connection.root()["odd"] = blob(b"odd")
        connection.transaction_manager.commit()
        del site._tree["files"]._tree["going"]
        kept.file = field(kinds, b"replaced")
        connection.transaction_manager.commit()


# What belongs to what: by the data of the blob, the content as text, its type, and the field.
EXPECTED = {
    b"picture": ("/Plone/files/picture", "Image", "image"),
    b"scale": ("/Plone/files/picture", "Image", "plone.scale"),
    b"replaced": ("/Plone/files/kept", "File", "file"),
    b"logo": ("/Plone/logo", "", "logo"),
    b"version": ("in the version history", "File", "file"),
    b"odd": ("/odd", "", ""),
}
# Where earlier records of objects that are no blobs are listed; elsewhere nothing is found.
EARLIER = {
    b"going": ("/Plone/files/going (until it was deleted or replaced)", "File", "file"),
    b"kept": ("/Plone/files/kept (until it was deleted or replaced)", "File", "file"),
}
NOWHERE = {b"lost"}
