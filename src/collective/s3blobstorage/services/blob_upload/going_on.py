"""``PUT <container or content>/@blob-upload/<upload>``: signed requests for more parts, or anew."""

from .requests import chosen_parts, chosen_single, only_known, part_requests, single_request, upload_told
from .upload import UploadService


class GoOn(UploadService):
    """``{"parts": [3, 4, 5]}``; of an upload that goes in one request ``{}``, or ``{"method": "post"}`` for a form."""

    def answer(self):
        self.admitted()
        ticket = self.ticket()
        self.check_place(ticket.announced)
        body, upload = self.body(), ticket.upload
        told = upload_told(self, self.path[0], ticket)
        if upload.multipart:
            only_known(body, ("parts",))
            numbers = chosen_parts(body, upload)
            return told | {
                "method": "multipart",
                "requests": part_requests(self.context, self.area, ticket, numbers),
            }
        only_known(body, ("method",))
        method = chosen_single(body)
        return told | {"method": method, "request": single_request(self.context, self.area, ticket, method)}
