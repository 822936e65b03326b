"""Makes the sites of test_rest_services.py. Run inside Zope: ``zconsole run zope.conf make_rest_sites.py PASSWORD``.

Three sites of the database ``main``, one of ``second`` and one of ``plain``, which are other databases of the same
process: each has a folder in them, which the application root refers to. A user for each role in every site, whose name
is the role's, and ``root``, a Manager of the application root. In ``restricted`` only Managers may change our settings.
"""

import sys

import transaction
from OFS.Folder import Folder
from plone import api
from plone.dexterity.schema import SCHEMA_CACHE
from plone.namedfile.file import NamedBlobFile
from Products.CMFPlone.factory import addPloneSite
from zope.component.hooks import setSite

PROFILES = (
    "plonetheme.barceloneta:default",
    "plone.app.contenttypes:default",
    "plone.restapi:default",
    "collective.s3blobstorage:default",
)
ROLES = ("Member", "Editor", "Site Administrator", "Manager")
FILES = {"one": 1, "two": 2, "second": 4, "plain": 1, "restricted": 0}  # files of each site

password = sys.argv[-1]
app = app  # noqa: F821, PLW0127  (zconsole's name for the root)
app.acl_users.userFolderAddUser("root", password, ["Manager"], [])


def in_database(name):
    connection = app._p_jar.get_connection(name)
    folder = Folder(name)
    connection.add(folder)
    connection.root()[name] = folder
    app._setObject(name, folder)
    return app[name]


PLACES = {"one": app, "two": app, "restricted": app, "second": in_database("second"), "plain": in_database("plain")}
for name, container in PLACES.items():
    portal = addPloneSite(container, "site" if container is not app else name, title=name, extension_ids=PROFILES)
    setSite(portal)
    for role in ROLES:
        portal.acl_users.userFolderAddUser(role, password, [role], [])
    for number in range(FILES[name]):
        file = NamedBlobFile(f"{name} {number}".encode() * 100, filename=f"{number}.bin")
        api.content.create(portal, "File", f"file-{number}", file=file)
    if name == "restricted":
        portal.manage_permission("collective.s3blobstorage: Change settings", ["Manager"], acquire=0)
    transaction.commit()
    setSite(None)
    SCHEMA_CACHE.clear()
