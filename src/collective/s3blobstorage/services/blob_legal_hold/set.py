"""``POST <content>/@blob-legal-hold``: hold all files of an item, or release them."""

from ..guard import guard
from ..refusal import bad_field
from .get import GetHold


class SetHold(GetHold):
    """The body is ``{"hold": true}`` or ``{"hold": false}``. No object of the database is written."""

    def answer(self):
        guard(self.request, self.context)
        hold = self.body().get("hold")
        if not isinstance(hold, bool):
            raise bad_field("hold", "is neither true nor false")
        holds = self.holds()
        return self.told(lambda oid: holds.set(oid, hold))
