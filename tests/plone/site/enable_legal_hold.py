"""Gives the type File of the site ``with`` the behaviour. Run inside Zope while it is stopped: ``zconsole run zope.conf
enable_legal_hold.py PASSWORD``."""

import sys

import transaction

portal = app["with"]  # noqa: F821  (zconsole's name for the root)
fti = portal.portal_types["File"]
fti.manage_changeProperties(behaviors=(*fti.behaviors, "collective.s3blobstorage.legal_hold"))
portal.acl_users.source_users.doAddUser("boss", sys.argv[-1])
portal.acl_users.portal_role_manager.assignRoleToPrincipal("Site Administrator", "boss")
transaction.commit()
