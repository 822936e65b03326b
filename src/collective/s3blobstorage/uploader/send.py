"""``POST <container or content>/@@upload-file``: a file the normal way, by the script or by a plain form.

``multipart/form-data`` with ``file``; ``type``, ``title``, ``field``, ``replace`` as ``sent.Asked`` has them; and the
``_authenticator`` that the page was given. How large it may be is for the web server in front and for Zope to say
(``form-disk-limit``).
"""

import json

import transaction
from plone.protect import CheckAuthenticator
from plone.uuid.interfaces import IUUID
from Products.Five.browser import BrowserView
from Products.statusmessages.interfaces import IStatusMessage
from zExceptions import Forbidden, Unauthorized
from zope.i18n import translate
from zope.i18nmessageid import MessageFactory
from ZPublisher.HTTPRequest import FileUpload

from ..services.guard import refuse_foreign
from ..services.refusal import Refusal
from ..uploading.interfaces import UploadRefused
from ..uploading.places import current_user
from .refused import said
from .sent import Asked, make_of
from .settings import PAGE

_ = MessageFactory("collective.s3blobstorage")

MOST_TOLD = 8  # files of a form whose refusal is told each for itself: browsers keep 4 KB of messages


class SendFile(BrowserView):
    """The script asks for JSON: 201 and the content, 200 where a file was replaced, or an error whose ``message`` is in
    the editor's language. A form gets the page again, with a message for each file; of several files each counts for
    itself.

    In the request's thread. Whatever is refused changes nothing; after a conflict Zope does all of it again.
    """

    def __call__(self):
        response = self.request.response
        response.setHeader("Cache-Control", "no-store")
        if self.request.method != "POST":
            response.setHeader("Allow", "POST")
            response.setStatus(405)
            return ""
        wants_json = "application/json" in (self.request.getHeader("Accept") or "")
        return self._answer_json(response) if wants_json else self._answer_form(response)

    # The script

    def _answer_json(self, response):
        response.setHeader("Content-Type", "application/json")
        try:
            self._admit()
            files = self._files()
            if len(files) != 1:
                raise Refusal(400, "BadRequest", "the request has no file, or more than one", field="file")
            completed = make_of(self.context, self.request, files[0], self._asked())
        except (Refusal, UploadRefused) as error:
            transaction.doom()  # Zope commits after any answer that is no exception
            told = said(error, self.request).answer(response)
        else:
            obj = completed.obj
            response.setStatus(201 if completed.created else 200)
            told = {
                "@id": obj.absolute_url(),
                "UID": IUUID(obj),
                "@type": obj.portal_type,
                "title": obj.Title(),
                "field": completed.field,
            }
            if completed.created:
                response.setHeader("Location", told["@id"])
        return json.dumps(told)

    # A form without JavaScript

    def _answer_form(self, response):
        try:
            self._admit()
        except Refusal as refusal:
            raise (Unauthorized if refusal.status == 401 else Forbidden)(refusal.message) from None
        files, asked = self._files(), self._asked()
        if len(files) != 1:
            asked = Asked(asked.portal_type, "", asked.field, asked.replaces)
        made, refused = [], []
        if len(files) > 1 and asked.replaces:
            refused.append(_("Choose one file, not several."))
        else:
            for upload in files:
                # What one file has changed before it was refused goes, and what those before it made stays.
                before = transaction.savepoint(optimistic=True)
                try:
                    made.append(make_of(self.context, self.request, upload, asked))
                except (Refusal, UploadRefused) as error:
                    before.rollback()
                    refused.append(self._not_uploaded(upload, said(error, self.request)))
        self._tell(files, made, refused)
        place = self.context.absolute_url()
        response.redirect(f"{place}/view" if asked.replaces else f"{place}/{PAGE}", 303)
        return ""

    def _tell(self, files, made, refused):
        messages = IStatusMessage(self.request)
        if len(made) == 1:
            messages.add(_("“${name}” is uploaded.", mapping={"name": made[0].obj.Title()}), "info")
        elif made:
            messages.add(_("${count} files are uploaded.", mapping={"count": str(len(made))}), "info")
        for message in refused[:MOST_TOLD]:
            messages.add(message, "error")
        if len(refused) > MOST_TOLD:
            more = str(len(refused) - MOST_TOLD)
            messages.add(_("${count} more files are not uploaded.", mapping={"count": more}), "error")
        if not files:
            messages.add(_("Choose a file."), "error")

    def _not_uploaded(self, upload, refusal):
        why = _("“${name}” is not uploaded: ${why}", mapping={"name": upload.filename[:100], "why": refusal.message})
        return translate(why, context=self.request)

    # The request

    def _admit(self):
        """Raise Refusal for a page of another origin, and for a request that no page of ours had made for this user."""
        refuse_foreign(self.request, self.context)
        try:
            CheckAuthenticator(self.request)
        except Forbidden:
            current_user()  # whose session is over has no authenticator that is good: 401
            raise Refusal(403, "Forbidden", _("This page is too old. Please load it again."), reason="page") from None

    def _files(self):
        """Those that were chosen: a field without a file is sent too, with an empty name."""
        given = self.request.form.get("file")
        given = given if isinstance(given, list) else [given]
        return [each for each in given if isinstance(each, FileUpload) and each.filename]

    def _asked(self):
        form = self.request.form
        texts = [form.get(name) for name in ("type", "title", "field")]
        return Asked(
            *(text.strip() if isinstance(text, str) else "" for text in texts),
            replaces=form.get("replace") in ("1", "true", "on"),
        )
