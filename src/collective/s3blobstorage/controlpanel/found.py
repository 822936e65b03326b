"""A finding of a check of every file, as a line of its job's report: what it is of, and what can be done."""

from AccessControl import getSecurityManager
from plone.dexterity.interfaces import IDexterityContent
from zExceptions import NotFound

from . import kinds
from .messages import _
from .words import moment_of


def finding_line(finding, site, database):
    """``finding``: of a report. ``url``: of the content, None where it is not there, or not for this user."""
    content = finding.get("content") or {}
    path = content.get("path")
    repair = finding.get("repair") or {}
    if path is None:
        said = _("in the version history") if content else _("nothing that is known")
    elif content.get("past"):
        said = _("${path} (until it was deleted or replaced)", mapping={"path": path})
    else:
        said = path
    return {
        "content": said,
        "field": content.get("field") or "",
        "url": None if path is None or content.get("past") else url_of(path, site, database),
        "kind": kinds.WRONG.get(finding["kind"], finding["kind"]),
        "detail": finding["detail"],
        "at": moment_of(finding["date"]),
        "repair": _repair(repair),
        "repair_detail": repair.get("detail") or "",
        "oid": finding["oid"],
    }


def _repair(repair):
    if not repair:
        return ""
    word = kinds.REPAIRS.get(repair["what"], repair["what"])
    if not repair.get("origin"):
        return word
    return _("${what}, from: ${origin}", mapping={"what": word, "origin": repair["origin"]})


def url_of(path, site, database):
    """Of content of that database which this user may view; None otherwise. ``path``: from the database's root."""
    try:
        found = site.getPhysicalRoot().unrestrictedTraverse(path.lstrip("/"), None)
    except (NotFound, KeyError, AttributeError):
        return None  # what traversal says of what is not there depends on what it passes
    if not IDexterityContent.providedBy(found) or "/".join(found.getPhysicalPath()) != path:
        return None  # acquired: what is meant is not there
    # A mounted database may have a path of the same name as the one that it is mounted in.
    if found._p_jar.db().database_name != database:
        return None
    return found.absolute_url() + "/view" if getSecurityManager().checkPermission("View", found) else None
