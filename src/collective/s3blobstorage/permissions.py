"""Who may see and do what, in the thread of a request. Nothing here makes a request to a store.

A site's managers are not the operator's: several sites, of several owners, may be in one database, and one bucket has
them all. So what concerns a whole database is asked for at the application root, where only the operator's accounts
are, unless zope.conf says ``site-operations on`` in that database's section.
"""

from AccessControl import getSecurityManager
from Acquisition import aq_base, aq_inner, aq_parent
from OFS.interfaces import IApplication
from plone.base.interfaces import IPloneSiteRoot
from zope.component import getUtility

from .interfaces import IBlobStorages
from .status.reduced import UNKNOWN, reduced

VIEW_STATUS = "collective.s3blobstorage: View status"
CHANGE_SETTINGS = "collective.s3blobstorage: Change settings"
OPERATE = "collective.s3blobstorage: Operate"


def may_view(context, blobs):
    """Whether the user may see that the database's blobs are well: all that ``reduced`` leaves, of the site's own
    database; of another one what ``may_operate`` allows."""
    if not is_of_site(context, blobs):
        return may_operate(context, blobs)
    return _has(VIEW_STATUS, _site_of(context) or _root_of(context))


def may_change(context, blobs=None):
    """Whether the user may change the site's policy: how its files are delivered, within zope.conf's bounds."""
    return _has(CHANGE_SETTINGS, _site_of(context))


def may_operate(context, blobs):
    """Whether the user may see the whole of the database's figures and names, check its store and start jobs.

    ``site-operations on`` gives that to the managers of the sites in that database, and of no other one.
    """
    site = _site_of(context)
    if site is not None and blobs.site_operations and is_of_site(site, blobs) and _has(OPERATE, site):
        return True
    return _has(OPERATE, _root_of(context))


def is_of_site(context, blobs):
    """Whether these are the blobs of the database that has the site of the context, or else the context."""
    site = _site_of(context)
    own = getUtility(IBlobStorages).for_context(context if site is None else site)
    return own.name == blobs.name


def status_for(context, blobs):
    """The status of the database as the user may see it. None where he may see nothing.

    As ``IStatus.document`` has it, and besides: ``available``, whether the blobs are in a bucket; ``reason`` why not;
    ``snippet`` for zope.conf; ``reduced``, whether something is left out. Waits for the store as ``document`` does.
    """
    if may_operate(context, blobs):
        document = blobs.status().document() if blobs.available else UNKNOWN | {"database": blobs.name}
        known = {"reduced": False, "snippet": blobs.snippet() or None}
    elif may_view(context, blobs):
        document = reduced(blobs.status().document()) if blobs.available else UNKNOWN | {"database": blobs.name}
        # The snippet has paths and hosts in it.
        known = {"reduced": True, "snippet": None}
    else:
        return None
    return {**document, "available": blobs.available, "reason": blobs.reason or None, **known}


def _has(permission, place):
    return place is not None and bool(getSecurityManager().checkPermission(permission, place))


def _site_of(context):
    return next((one for one in _containers(context) if IPloneSiteRoot.providedBy(one)), None)


def _root_of(context):
    """None of what is in no application, as an object that was not added yet: it has no operator."""
    return next((one for one in _containers(context) if IApplication.providedBy(one)), None)


def _containers(context):
    """The object and all that contain it. Not whatever the address of the request went through on its way."""
    seen = set()
    while context is not None and id(aq_base(context)) not in seen:
        seen.add(id(aq_base(context)))
        yield aq_inner(context)
        context = aq_parent(aq_inner(context))
