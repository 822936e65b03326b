"""``@@s3blobstorage-ready``: may this process get requests?

For a load balancer or an orchestrator that asks every few seconds, without a login, at the application root. The answer
depends on the database alone. A store that is away takes the blobs with it and nothing else: pages are still served,
and neither a restart nor another process would do better.
"""

import logging

from Products.Five.browser import BrowserView

logger = logging.getLogger(__name__)


class Readiness(BrowserView):
    """200 ``ok`` while the database answers, else 503 ``not ready``. Says nothing else, whoever asks.

    Makes no request to the object store, loads no blob and writes nothing. Runs in the thread of the request. A
    database that cannot even be opened for the request is Zope's to report, before any view is called: its 500 is no
    200 either.
    """

    def __call__(self):
        """Answer GET."""
        response = self.request.response
        response.setHeader("Content-Type", "text/plain; charset=utf-8")
        response.setHeader("Cache-Control", "no-store")
        if self._database_answers():
            return "ok\n"
        response.setStatus(503)
        return "not ready\n"

    def HEAD(self):
        """Answer HEAD: as GET, without a body."""
        self()
        return ""

    def _database_answers(self):
        # RelStorage asked its database when the connection was opened for this request, a FileStorage is here. A ZEO
        # client answers from its cache long after the server has gone: it has to be asked.
        try:
            storage = self.context._p_jar.db().storage
            is_connected = getattr(storage, "is_connected", None)
            return is_connected is None or bool(is_connected())
        except Exception:  # whatever it is, the answer is "not ready", never a 500
            logger.warning("the database does not answer", exc_info=True)
            return False
