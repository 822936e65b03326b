"""On a content item whose file is damaged: that it is, for who may edit it, and what can be done."""

from plone.app.layout.viewlets.common import ViewletBase
from plone.namedfile.interfaces import IBlobby
from ZODB.POSException import POSKeyError
from ZODB.utils import oid_repr, tid_repr
from zope.annotation.interfaces import IAnnotations
from zope.component import getUtility

from ..errors import S3BlobStorageError
from ..interfaces import IBlobStorages
from ..maintenance.fsck.finding import DAMAGED, WRONG_ENCRYPTION
from ..maintenance.fsck.mend import WOULD
from ..permissions import may_operate
from ..services.blob_url.files import fields_of
from .kinds import WRONG
from .messages import _
from .page import STATUS

SCALES = "plone.scale"  # plone.scale's annotation

ADVICE = {
    DAMAGED: _("Upload the file again if you have it; else ask who operates the site for a backup of the database."),
    WRONG_ENCRYPTION: _("The file is not lost: a key is missing that it needs. Ask who operates the site."),
}
_AGAIN = _("Upload the file again if you have it; else ask who operates the site for a copy that may be elsewhere.")
_COPY = _("A copy was found: ask who operates the site to bring it back, or upload the file again.")
_SCALE = _("Save the image again, and its smaller versions are made anew.")


class Broken(ViewletBase):
    """In the thread of a request. What the last check found is known to the process: no request is made to the store,
    and no blob is loaded of an item of which nothing was found."""

    files = ()
    operates = False

    def update(self):
        super().update()
        blobs = getUtility(IBlobStorages).for_context(self.context)
        found = blobs.status().broken() if blobs.available else None
        if found:
            self.files = [*self._of_fields(found), *self._of_scales(found)]
            self.operates = bool(self.files) and may_operate(self.context, blobs)

    @property
    def url(self):
        """Of the way to the job's report."""
        return f"{self.site_url}/{STATUS}#s3b-work"

    def _of_fields(self, found):
        for _name, file in fields_of(self.context):
            finding = _finding_of(file, found)
            if finding is not None:
                yield {
                    "name": file.filename or "",
                    "what": WRONG.get(finding["kind"], finding["kind"]),
                    "advice": _advice(finding),
                }

    def _of_scales(self, found):
        """Once for all of them. They are not looked at where no finding is of a scale of this item."""
        path = "/".join(self.context.getPhysicalPath())
        if not any(_is_scale_of(path, finding) for finding in found.values()):
            return
        for scale in IAnnotations(self.context).get(SCALES, {}).values():
            finding = _finding_of(scale.get("data"), found)
            if finding is not None:
                what = WRONG.get(finding["kind"], finding["kind"])
                yield {"name": _("A smaller version of the image"), "what": what, "advice": _SCALE}
                return


def _is_scale_of(path, finding):
    content = finding.get("content") or {}
    return content.get("field") == SCALES and content.get("path") == path


def _finding_of(file, found):
    """Of the revision that the file has now; None where nothing was found of it: it was replaced since."""
    if not IBlobby.providedBy(file):
        return None
    blob = file._blob
    if blob._p_jar is None:  # not committed
        return None
    oid = oid_repr(blob._p_oid)
    of_all_revisions = [finding for (other, _tid), finding in found.items() if other == oid]
    if not of_all_revisions:
        return None
    try:
        blob._p_activate()  # a ghost does not know its revision
    except (POSKeyError, S3BlobStorageError):
        return of_all_revisions[-1]  # its record cannot be read, which is what was found of it
    return found.get((oid, tid_repr(blob._p_serial)))


def _advice(finding):
    if (finding.get("repair") or {}).get("what") == WOULD:
        return _COPY
    return ADVICE.get(finding["kind"], _AGAIN)
