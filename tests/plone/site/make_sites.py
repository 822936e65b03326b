"""Makes the Plone sites of the tests. Run inside Zope: ``zconsole run zope.conf make_sites.py PASSWORD``.

``with``: the add-on's profile is applied. ``without``: it is not, the blobs are in the bucket all the same. The
variable ``SITES`` may name one of them. Each has a folder ``files`` in which the user ``editor`` may add content, and
keeps versions of files.
"""

import os
import sys

import transaction
from plone import api
from plone.dexterity.schema import SCHEMA_CACHE
from Products.CMFPlone.factory import addPloneSite
from zope.component.hooks import setSite

BASICS = ("plonetheme.barceloneta:default", "plone.app.contenttypes:default", "plone.restapi:default")
SITES = {"with": (*BASICS, "collective.s3blobstorage:default"), "without": BASICS}


def keep_versions(portal, portal_type):
    """Plone's own switch: the behaviour on the type, the type and its policies in the repository tool."""
    fti = portal.portal_types[portal_type]
    if "plone.versioning" not in fti.behaviors:
        fti.manage_changeProperties(behaviors=(*fti.behaviors, "plone.versioning"))
    repository = portal.portal_repository
    repository.setVersionableContentTypes([*repository.getVersionableContentTypes(), portal_type])
    for policy in ("at_edit_autoversion", "version_on_revert"):
        repository.addPolicyForContentType(portal_type, policy)


def make_site(app, name, profiles, password):
    portal = addPloneSite(app, name, title=f"Site {name} the add-on", extension_ids=profiles)
    setSite(portal)
    keep_versions(portal, "File")
    portal.acl_users.source_users.doAddUser("editor", password)
    folder = api.content.create(portal, "Folder", "files", title="Files")
    folder.manage_setLocalRoles("editor", ["Contributor", "Editor", "Reader"])
    if "simple_publication_workflow" in portal.portal_workflow.getChainFor(folder):
        api.content.transition(folder, "publish")
    transaction.commit()  # before the site is left: it works off the catalog's queue
    setSite(None)
    SCHEMA_CACHE.clear()  # knows this site's types only


password = sys.argv[-1]
app.acl_users.userFolderAddUser("admin", password, ["Manager"], [])  # noqa: F821  (zconsole's name for the root)
for name in os.environ.get("SITES", " ".join(SITES)).split():
    make_site(app, name, SITES[name], password)  # noqa: F821
