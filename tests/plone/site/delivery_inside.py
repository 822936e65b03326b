"""Inside Zope, for the tests of delivery: makes users and a type, and notes which blobs are loaded and what is sent.

``NOTES`` in the environment is the file into which each ``loadBlob`` is noted, and the class of each body.
"""

import os

from plone.dexterity.fti import DexterityFTI
from plone.dexterity.schema import SCHEMA_CACHE
from plone.protect.interfaces import IDisableCSRFProtection
from plone.registry.interfaces import IRegistry
from Products.Five.browser import BrowserView
from ZODB.utils import oid_repr
from zope.component import getUtility
from zope.interface import alsoProvides

from collective.s3blobstorage.storage.instance import S3BlobInstance

MODEL = """\
<model xmlns="http://namespaces.plone.org/supermodel/schema"
       xmlns:security="http://namespaces.plone.org/supermodel/security">
  <schema>
    <field name="guarded" type="plone.namedfile.field.NamedBlobFile"
           security:read-permission="cmf.ModifyPortalContent"><title>Guarded</title><required>False</required></field>
    <field name="old" type="plone.namedfile.field.NamedFile"><title>Old</title><required>False</required></field>
    <field name="open" type="plone.namedfile.field.NamedBlobFile"><title>Open</title><required>False</required></field>
  </schema>
</model>
"""


class MakeReady(BrowserView):
    """Of one site: the users member, reviewer and boss, the folders public and private, and the type Guarded."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        portal = self.context
        password = self.request.form["password"]
        for name, roles in (("member", ["Member"]), ("reviewer", ["Member", "Reviewer"]), ("boss", ["Manager"])):
            portal.acl_users.source_users.doAddUser(name, password)
            for role in roles:
                if role != "Member":
                    portal.acl_users.portal_role_manager.assignRoleToPrincipal(role, name)
        fti = DexterityFTI("Guarded", model_source=MODEL, global_allow=True, klass="plone.dexterity.content.Item")
        fti.behaviors = ("plone.basic", "plone.shortname")
        portal.portal_types._setObject("Guarded", fti)
        portal.portal_workflow.setChainForPortalTypes(["Guarded"], [])
        SCHEMA_CACHE.clear()
        for name, roles in (("public", ["Anonymous", "Manager"]), ("private", ["Reviewer", "Manager"])):
            portal.invokeFactory("Folder", name, title=name)
            for permission in ("View", "Access contents information"):
                portal[name].manage_permission(permission, roles, acquire=0)
        return "made"


class Caching(BrowserView):
    """Switches plone.app.caching on, with the rules of one of its profiles, or off."""

    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        setup, form = self.context.portal_setup, self.request.form
        if form.get("profile"):
            setup.runAllImportStepsFromProfile("plone.app.caching:default")
            setup.runAllImportStepsFromProfile(f"plone.app.caching:{form['profile']}")
        registry = getUtility(IRegistry)
        registry["plone.caching.interfaces.ICacheSettings.enabled"] = bool(form["enabled"])
        for operation in ("weakCaching", "moderateCaching"):
            registry[f"plone.app.caching.{operation}.ramCache"] = bool(form.get("ram"))
        return "caching"


def _note(text):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{text}\n")


def noting(global_conf):
    """A filter for Paste's pipeline."""
    load = S3BlobInstance.loadBlob

    def loadBlob(self, oid, serial):
        _note(f"loadBlob {oid_repr(oid)}")
        return load(self, oid, serial)

    S3BlobInstance.loadBlob = loadBlob
    return Noting


class Noting:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        wrapper = environ["wsgi.file_wrapper"]

        def file_wrapper(file, *arguments):
            _note(f"file {type(file).__name__}")
            return wrapper(file, *arguments)

        return self.app({**environ, "wsgi.file_wrapper": file_wrapper}, start_response)
