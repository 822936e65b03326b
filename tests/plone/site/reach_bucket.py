"""What an add-on does with ``IBlobStorages`` inside Zope. Run while the site is stopped: ``zconsole run zope.conf
reach_bucket.py``. Prints a line of JSON."""

import json
import logging

from zope.component import getUtility

from collective.s3blobstorage.interfaces import IBlobStorages, IKeyRing

logging.disable(logging.WARNING)
storages = getUtility(IBlobStorages)
places = {
    "root": storages.for_context(app),  # noqa: F821  (zconsole's name for the root)
    "with": storages.for_context(app["with"]["files"]),  # noqa: F821
    "without": storages.for_context(app["without"]),  # noqa: F821
    "name": storages.get(),
}
for name, blobs in places.items():
    blobs.space("collective.x").put(f"of/{name}", name.encode())
read = [line.key for line in storages.get("main").space("collective.x").list("of/")]
mode = IKeyRing(storages.get()).mode
print("FOUND", json.dumps({"keys": read, "mode": mode, "unknown": storages.get("catalog").reason}))
