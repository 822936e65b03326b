"""``DELETE <container or content>/@blob-upload/<upload>``"""

from .upload import UploadService


class Abort(UploadService):
    """204: nothing of it is left, and its id is good for nothing. Also where direct upload is off by now.

    Where the store is out the upload stays open, so that it can be asked for again.
    """

    def answer(self):
        self.admitted()
        ticket = self.ticket(off=True)
        self.area.drop(ticket.upload)
        self.uploads.end(ticket.upload.id)
        return self.reply_no_content()
