"""A Zope with Plone sites, as a process of its own: its configuration, its start and its stop."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from servers.process import ServerProcess, free_port

MAKE_SITES = Path(__file__).with_name("make_sites.py")
SITES = ("with", "without")  # the add-on's profile
MAKE_SECONDS = 180.0  # both take 10 s on an idle machine
START_SECONDS = 90.0  # 5 s on an idle machine

SITE_ZCML = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:five="http://namespaces.zope.org/five"
           xmlns:browser="http://namespaces.zope.org/browser">
  <include package="Products.Five" />
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
  {zcml}
</configure>
"""

ZOPE_INI = """\
[app:zope]
use = egg:Zope#main
zope_conf = {home}/etc/zope.conf

{filter}
[pipeline:main]
pipeline =
    {filters}
    egg:Zope#httpexceptions
    zope

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:{port}
threads = 4
max_request_body_size = 2147483648
{waitress}

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = line

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = line

[formatter_line]
format = %(asctime)s %(levelname)s [%(name)s][%(threadName)s] %(message)s
"""

FILTER = """\
[filter:tested]
paste.filter_factory = {factory}
"""

ZOPE_CONF = """\
%import collective.s3blobstorage

instancehome {home}

<zodb_db main>
  mount-point /
{storage}
</zodb_db>
"""

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix plone/site
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    owner tests
    cache-dir {cache_dir}
    cache-size 2GB
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""


@dataclass
class ZopeInstance:
    """One instance home and the process that serves it on http://localhost:PORT.

    :param home: holds configuration, ``Data.fs``, temporary files and ``zope.log``; created if missing
    :param cache_dir: the storage's ``cache-dir``, outside ``home``
    :param storage: the storage's section, as text for zope.conf
    :param zope_conf: the whole of zope.conf instead
    :param environment: variables of the process besides those of the tests
    :param zcml: more for site.zcml
    :param waitress: more for the server's section
    :param filter: a WSGI filter around Zope: its factory, as ``module:name``
    """

    home: Path
    cache_dir: Path
    storage: str
    password: str = field(repr=False)
    port: int = 0
    probe: str = "/with/files"  # answers 200 once it is up
    zope_conf: str | None = None
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    zcml: str = ""
    waitress: str = ""
    filter: str = ""
    _process: ServerProcess | None = None

    @property
    def log(self) -> Path:
        return self.home / "zope.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def temporary(self) -> Path:
        return self.home / "tmp"

    def make(self) -> None:
        """Write the configuration and make the sites."""
        self.configure()
        run = subprocess.run(
            [sys.executable, "-m", "Zope2.utilities.zconsole", "run", self.home / "etc" / "zope.conf",
             MAKE_SITES, self.password],
            env=self._environment(), capture_output=True, text=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
        if run.returncode:
            raise RuntimeError(f"the sites were not made:\n{run.stdout}\n{run.stderr}")

    def configure(self) -> None:
        """Write the configuration only."""
        for folder in ("etc", "var", "tmp"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "etc" / "site.zcml").write_text(SITE_ZCML.format(zcml=self.zcml))
        text = self.zope_conf or ZOPE_CONF.format(home=self.home, storage=self.storage)
        (self.home / "etc" / "zope.conf").write_text(text)

    def start(self) -> None:
        """Start it and wait until ``probe`` answers."""
        self.port = self.port or free_port()
        ini = self.home / "etc" / "zope.ini"
        filter_, filters = (FILTER.format(factory=self.filter), "tested") if self.filter else ("", "")
        values = {"waitress": self.waitress, "filter": filter_, "filters": filters}
        ini.write_text(ZOPE_INI.format(home=self.home, port=self.port, **values))
        command = [sys.executable, "-m", "Zope2.Startup.serve", str(ini)]
        self._process = ServerProcess("Zope", command, self._environment(), self.log)
        self._process.start()
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Until ``probe`` answers 200. ServerFailed where it does not in time."""
        assert self._process is not None
        self._process.wait_until(self._answers, START_SECONDS)

    def stop(self) -> None:
        if self._process:
            self._process.stop(30)

    def restart_with_empty_cache(self) -> None:
        """What is read afterwards can only come from the bucket."""
        self.stop()
        shutil.rmtree(self.cache_dir)
        self.cache_dir.mkdir()
        self.start()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", self.probe, headers={"Accept": "application/json"})
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | {"TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"} | self.environment
