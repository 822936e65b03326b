"""What the script says, by names that both know; ``${name}`` stands for what differs, and is filled in by the script.

Texts of Uppy's own (``3 files selected``, ``Pause``) are not here: it has them in its own languages.
"""

from zope.i18n import translate
from zope.i18nmessageid import MessageFactory

_ = MessageFactory("collective.s3blobstorage")

WORDS = {
    # the place where files are dropped
    "files": _("Files to upload"),
    "file": _("File to upload"),
    "limit": _("Up to ${limit} for each file."),
    "takes": _("Only these types: ${types}."),
    "no-folders": _("You may add no folders here: the files of a dropped folder go into this one."),
    "chosen": _("${name} is chosen."),
    "removed": _("${name} is taken off."),
    "title": _("Title"),
    "type": _("Type"),
    "type-of-all": _("Type of all files"),
    "type-by-file": _("What fits each file"),
    # what is refused before anything is sent
    "too-large": _("The file is ${size}; this site takes up to ${limit}."),
    "too-large-together": _("The files of this form have ${size} together; this site takes up to ${limit}."),
    "wrong-type": _("The file is of the type ${type}; this site takes ${types}."),
    "wrong-type-here": _("The file is of the type ${type}; taken is ${types}."),
    "no-type": _("The file is of the type ${type}; nothing that may be added here takes it."),
    "unknown-type": _("unknown"),
    "empty": _("The file is empty."),
    "twice": _("The file is in the list already."),
    # while it is sent
    "preparing": _("Looking what is there already"),
    "sending": _("Uploading: ${percent} percent."),
    "speed": _("${rate} per second"),
    "waiting": _("No connection. It goes on by itself when the connection is back."),
    "resumes": _("It goes on where it was."),
    "completing": _("All is sent. Now it becomes content."),
    "paused": _("Paused."),
    "done": _("${name} is uploaded."),
    "all-done": _("Everything is uploaded."),
    # what went wrong
    "failed": _("The upload failed. Choose “Retry”."),
    "refused": _("The site does not take the file: ${reason}"),
    "lost": _("The connection is lost. Choose “Retry” when it is back: the upload goes on where it was."),
    "lost-again": _("The connection is lost. Choose “Retry” when it is back: the file is sent again."),
    "logged-out": _("You are logged out. Log in, then choose “Retry”."),
    "log-in": _("Log in, in another window"),
    "forbidden": _("You may not upload here any more."),
    "ended": _(
        "The upload has expired, or was cancelled elsewhere. Choose “Retry”: the file is sent from its beginning."
    ),
    "changed": _("The file has changed on your disk or is gone. Choose it again."),
    "large-for-server": _("The web server does not take a file of ${size} this way."),
    "folders-failed": _("The folders could not be made: ${reason}"),
    "retry": _("Retry"),
    "retry-one": _("Retry ${name}"),
    "dismiss": _("Dismiss"),
    "dismiss-one": _("Dismiss the message about ${name}"),
    # files that have the name of what is there
    "exist": _("Some files are here already"),
    "exist-help": _(
        "Replacing puts the new file into the content that is there. Its address stays, and so do earlier versions "
        "where the site keeps them."
    ),
    "exist-one": _("What to do with ${name}"),
    "exist-is": _("${title}, ${size}"),
    "for-all": _("For all"),
    "keep-both": _("Keep both"),
    "replace": _("Replace"),
    "leave-out": _("Do not upload"),
    "go-on": _("Go on"),
    # unfinished uploads of earlier
    "unfinished": _("Unfinished uploads"),
    "unfinished-one": _("${name}, ${sent} of ${size}: choose the file again to go on."),
    "cancel": _("Cancel"),
    "cancel-one": _("Cancel the upload of ${name}"),
    "cancelled": _("The upload of ${name} is cancelled."),
    # what was made
    "uploaded": _("Uploaded"),
    "title-of": _("Title of ${name}"),
    "save": _("Save"),
    "save-one": _("Save the title of ${name}"),
    "saved": _("The title is saved."),
    "not-saved": _("The title is not saved: ${reason}"),
    "upload-more": _("Upload more"),
    # in a form
    "wait": _("The file is being uploaded. The form can be saved when it is there."),
    "wait-failed": _("The file is not uploaded. Choose “Retry”, or take it off; then the form can be saved."),
    "wait-over": _("The file is uploaded. The form can be saved."),
    "ready": _("${name}, ${size}, is uploaded, and becomes part of the content when the form is saved."),
    "take-off": _("Take the file off"),
    "take-off-one": _("Take ${name} off"),
    "form-sends": _("The form is being sent."),
    "form-errors": _("The form is not saved yet: see what is marked."),
    "form-lost": _("The connection is lost. Nothing of the form is lost: save it again when the connection is back."),
    "form-logged-out": _("You are logged out. Nothing of the form is lost: log in, then save it again."),
    "form-failed": _(
        "The site could not save the form (${status}). Nothing of it is lost: save it again, or tell who runs the site."
    ),
}


def words(request):
    """The texts in the language of the request. In its thread."""
    return {name: translate(text, context=request) for name, text in WORDS.items()}
