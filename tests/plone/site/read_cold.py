"""Tools of Plone that read blobs, each on an empty cache. Run inside Zope while the site is stopped:
``zconsole run zope.conf read_cold.py CACHE FOLDER``.

Each of the functions in ``TOOLS`` reads the File ``cold/large`` and the Image ``cold/image`` of the site ``with`` by
its tool, and returns the SHA-256 of what came. A line of JSON is printed for each.
"""

import hashlib
import json
import logging
import shutil
import sys
from pathlib import Path

import transaction
from AccessControl.SecurityManagement import newSecurityManager
from Testing.makerequest import makerequest
from zope.component.hooks import setSite
from zope.globalrequest import setRequest

logging.disable(logging.WARNING)
cache, folder = Path(sys.argv[-2]), Path(sys.argv[-1])
app = makerequest(app)  # noqa: F821  (zconsole's name for the root)
request = app.REQUEST
setRequest(request)


def enter(name):
    setSite(app[name])
    request["PARENTS"] = [app]
    return app[name]


def digest(item, field):
    with getattr(item, field).open() as file:
        return hashlib.sha256(file.read()).hexdigest()


def found(portal, path="cold"):
    items = portal.unrestrictedTraverse(path)
    return {"large": digest(items["large"], "file"), "image": digest(items["image"], "image")}


def versions(portal):
    """CMFEditions clones the file of a version; the one that is there was never read here."""
    large = portal["cold"]["large"]
    repository = portal.portal_repository
    repository.save(large, comment="a version of what was not read")
    transaction.commit()
    newest = repository.retrieve(large).object
    return {"large": digest(newest, "file"), "image": digest(portal["cold"]["image"], "image")}


def plone_exportimport(portal):
    from plone.exportimport.exporters import get_exporter
    from plone.exportimport.importers import get_importer

    get_exporter(portal).export_site(folder)
    other = enter("without")
    get_importer(other).import_site(folder)
    transaction.commit()
    return found(other)


def collective_exportimport(portal):
    """Out as JSON, deleted, and in again."""
    from collective.exportimport import config
    from collective.exportimport.export_content import ExportContent
    from collective.exportimport.import_content import ImportContent

    config.CENTRAL_DIRECTORY = str(folder)
    request.form.update({"form.submitted": "1", "filename": "cold.json"})
    request["ACTUAL_URL"] = portal.absolute_url()
    export = ExportContent(portal, request)
    export(portal_type=["Folder", "File", "Image"], path="/with/cold", include_blobs=1, download_to_server=1)
    assert not export.errors
    before = found(portal)
    del portal["cold"]
    with (folder / "cold.json").open("rb") as file:
        ImportContent(portal, request)(jsonfile=file)
    transaction.commit()
    assert found(portal) == before
    return before


def zexp(portal):
    """The management interface's export and import."""
    exported = folder / "cold.zexp"
    with exported.open("wb") as file:
        portal._p_jar.exportFile(portal["cold"]._p_oid, file)
    with exported.open("rb") as file:
        copy = portal._p_jar.importFile(file)
    return {"large": digest(copy["large"], "file"), "image": digest(copy["image"], "image")}


def pictures(portal):
    """Pillow, as Plone's scales use it, and the catalog's view of sizes."""
    from PIL import Image

    with portal["cold"]["image"].image.open() as file:
        Image.open(file).load()
    scale = portal["cold"]["image"].restrictedTraverse("@@images").scale("image", scale="mini")
    assert scale.width <= 200
    assert portal["cold"]["large"].file.getSize() == portal["cold"]["large"].get_size()
    return found(portal)


# The last one deletes what the others read.
TOOLS = [pictures, versions, zexp, plone_exportimport, collective_exportimport]

newSecurityManager(request, app.acl_users.getUser("admin").__of__(app.acl_users))
for tool in TOOLS:
    app._p_jar.cacheMinimize()
    for folder_of_files in cache.glob("*/blobs"):
        shutil.rmtree(folder_of_files)
    print("FOUND " + json.dumps([tool.__name__, tool(enter("with"))]), flush=True)
