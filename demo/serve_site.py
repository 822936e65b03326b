"""The demo's Zope: ``serve_site.py ZOPE_CONF PORT`` makes the site where there is none, and serves it on 127.0.0.1."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import transaction
import waitress
import Zope2
from AccessControl.SecurityManagement import newSecurityManager, noSecurityManager
from AccessControl.users import system
from configuration import ADMIN
from example_site import SITE, make_site
from Testing.makerequest import makerequest
from zope.component.hooks import setSite
from zope.globalrequest import clearRequest, setRequest
from Zope2.Startup.run import make_wsgi_app
from ZPublisher.httpexceptions import HTTPExceptionHandler

logger = logging.getLogger("demo")


def main(zope_conf: str, port: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a page of images is queued for a moment: no news
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    publisher = make_wsgi_app({}, zope_conf)
    try:
        make_site_once(Path(os.environ["S3BLOBS_DEMO_PASSWORD_FILE"]))
        waitress.serve(
            at_root(HTTPExceptionHandler(publisher), port),
            listen=f"127.0.0.1:{port}",
            threads=4,
            clear_untrusted_proxy_headers=True,
        )
    finally:
        for database in Zope2.opened:
            database.close()


def make_site_once(password_file: Path) -> None:
    """Make administrator and site in one transaction: a start that is interrupted leaves nothing half made."""
    app = makerequest(Zope2.app())
    try:
        if SITE in app.objectIds():
            return
        app.REQUEST["PARENTS"] = [app]
        setRequest(app.REQUEST)
        newSecurityManager(None, system)
        app.acl_users._doAddUser(ADMIN, password_file.read_text().strip(), ["Manager"], [])
        make_site(app)
        transaction.commit()
        logger.info("site made")
    finally:
        setSite(None)  # before the abort, which otherwise asks a site that is not there any more
        transaction.abort()
        noSecurityManager()
        clearRequest()
        app._p_jar.close()


def at_root(application: Callable, port: int) -> Callable:
    """``application`` with the site at the root of the address, as behind a web server's rewrite rule."""
    hosts = {f"localhost:{port}", f"127.0.0.1:{port}"}

    def served(environ: dict, start_response: Callable) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if host not in hosts:  # a foreign name would end up in the links of cached pages
            host = f"localhost:{port}"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            size = int(environ.get("CONTENT_LENGTH") or 0)
            logger.info("%s %s brings %d bytes", environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/"), size)
        environ["PATH_INFO"] = f"/VirtualHostBase/http/{host}/{SITE}/VirtualHostRoot" + environ.get("PATH_INFO", "/")
        return application(environ, start_response)

    return served


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
