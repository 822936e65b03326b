"""What the verbs of ``@blob-upload`` have in common: whose upload it is, and what errors say."""

import re

import transaction
from zExceptions import NotFound
from zope.component import getUtility, queryMultiAdapter
from zope.i18n import translate

from ...directupload.interfaces import UploadWrong
from ...interfaces import IBlobStorages
from ...uploading.completing import UploadEnded, field_of
from ...uploading.interfaces import UploadRefused
from ...uploading.open_uploads import OpenUploads
from ...uploading.places import current_site, current_user
from ...uploading.tickets import check_ticket
from ...uploading.token import read
from ..about import BlobService
from ..guard import guard
from ..refusal import Refusal

COMPANION = "companion"  # what lies below it is companion.py's; no token is so short
FOLDERS = "folders"  # folders.py's
_ID = re.compile("[0-9a-f]{32}")
_STATUS = {"token": (404, "NotFound"), "expired": (410, "Gone"), "ended": (410, "Gone"), "off": (409, "Conflict")}


class UploadService(BlobService):
    """In the thread of the request. The context is the container, or the content whose file is replaced.

    Besides the errors of ``BlobService``: UploadRefused becomes 422 (404, 409 or 410 where its kind says more) with its
    kind as ``reason`` and its message in the user's language; UploadWrong 400, or 410 where nothing is left. Whatever
    is an error is not committed, but where ``keeps`` is set.
    """

    name = "@blob-upload"
    keeps = False

    def publishTraverse(self, request, name):
        if not self.path and name in (COMPANION, FOLDERS):
            service = queryMultiAdapter((self.context, request), name=f"{request._rest_service_id}{self.name}-{name}")
            if service is None:  # a verb that it does not have
                raise NotFound(self, name, request)
            return service
        return super().publishTraverse(request, name)

    def _answer_or_error(self, response):
        try:
            told = super()._answer_or_error(response)
        except UploadRefused as refused:
            told = refusal_of(refused, self.request).answer(response)
        except UploadWrong as wrong:
            status, kind = (410, "Gone") if wrong.gone and not wrong.incomplete else (400, "UploadWrong")
            told = Refusal(status, kind, str(wrong), gone=wrong.gone, incomplete=wrong.incomplete).answer(response)
        if response.getStatus() >= 400 and not self.keeps:
            transaction.doom()  # Zope commits after any answer that is no exception
        return told

    @property
    def blobs(self):
        """Those of the context's database, whatever the address says."""
        return getUtility(IBlobStorages).for_context(self.context)

    @property
    def area(self):
        """An ``IUploadArea``. ConfigurationError where there is no bucket."""
        return self.blobs.uploads()

    @property
    def uploads(self):
        return OpenUploads(current_site())

    def admitted(self):
        """The user who is logged in, for a request that the guard lets through. Raises Refusal."""
        user = current_user()
        guard(self.request, self.context)
        return user

    def ticket(self, token=None, *, finished=False, off=False):
        """The ticket of a token, for whom, and where, it was given.

        :param token: None: the one in the address; or the id of an upload whose token is kept by the register
        :param finished: whether an upload that has become content is found too
        :param off: whether it is found where direct upload is off by now

        Raises UploadRefused: of kind ``token`` alike for what is no token and for somebody else's, ``expired``,
        ``ended``, and ``off``.
        """
        if token is None:
            token = self.path[0] if len(self.path) == 1 else ""
        if _ID.fullmatch(token):  # no token is that short
            token = self.uploads.token(token) or ""
        ticket = read(token)
        check_ticket(ticket, self.context, finished=finished, off=off)
        return ticket

    def check_place(self, announced):
        """Raise Refusal where the user may not add that here, or change it, any more."""
        field_of(self.context, self.request, announced)


def refusal_of(refused, request):
    """An UploadRefused as a ``Refusal``: its message in the language of the request."""
    status, kind = _STATUS.get(refused.kind, (422, "UploadRefused"))
    # Where only a setting or a policy is to blame the upload is kept: a client need not send all of it again later.
    more = {"ended": True} if isinstance(refused, UploadEnded) else {}
    return Refusal(status, kind, translate(refused.message, context=request), reason=refused.kind, **more)
