"""Two Zopes of one site, behind a ZEO server, with one bucket and one cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from operated_site import OperatedSite
from servers.process import ServerProcess, free_port

STORAGE = """\
    <filestorage>
      path /srv/plone/var/Data.fs
    </filestorage>"""


@contextmanager
def behind_zeo(site: OperatedSite, home: Path) -> Iterator[OperatedSite]:
    """Put a ZEO server before the database of ``site``, which is not started; the second Zope, whose home is ``home``.

    Both read what ``site.names`` and ``site.variables`` had at that moment.
    """
    port = free_port()
    conf = site.home / "etc" / "zeo.conf"
    conf.write_text(
        f"<zeo>\n  address 127.0.0.1:{port}\n</zeo>\n<filestorage 1>\n  path {site.database}\n</filestorage>\n"
    )
    site.change(STORAGE, f"    <zeoclient>\n      server 127.0.0.1:{port}\n    </zeoclient>")
    second = OperatedSite(home, None, site.server, site.bucket)
    second.names = {**site.names, "http://localhost:8080": second.names["http://localhost:8080"]}
    second.variables.update(site.variables)
    assert site.zope.zope_conf is not None
    second.zope.zope_conf = site.zope.zope_conf.replace(f"instancehome {site.home}", f"instancehome {home}")
    second.zope.configure()
    second.files = site.files
    command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(conf)]
    server = ServerProcess("ZEO", command, dict(os.environ), site.home / "zeo.log")
    server.start()
    try:
        yield second
    finally:
        site.stop()
        second.stop()
        server.stop()
