"""Sites that keep their blobs in the base as well as in the bucket, and what opens them without this package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import ZODB
import ZODB.config
from command_line import section
from sites import run_zeo
from ZODB.blob import FilesystemHelper

from collective.s3blobstorage.settings import StoreSettings

KINDS = ["filestorage", "blobstorage", "sqlite", "sqlite-shared", "postgresql", "zeo", "zeo-shared"]
SEVERAL_PROCESSES = ["sqlite", "postgresql", "zeo", "zeo-shared"]


class KeptSite:
    """One database whose base has blobs. ``kind`` is one of ``KINDS``.

    ``served_blobs``: whether the ZEO server of such a kind keeps blobs; without, only ``alone`` is of use.
    """

    def __init__(
        self, kind: str, folder: Path, store: StoreSettings, postgresql: Any = None, *, served_blobs: bool = True
    ) -> None:
        self.kind = kind
        self.folder = folder
        self.store = store
        folder.mkdir()
        self.blobs = folder / "blobs"  # where all of them are, unless each process has a folder for what it fetches
        self._postgresql = postgresql
        self._database = postgresql.create_database() if kind == "postgresql" else ""
        self._zeo: tuple[int, subprocess.Popen] | None = None
        if kind.startswith("zeo"):
            blobs = f"  blob-dir {self.blobs}\n" if served_blobs else ""
            served = f"<filestorage main>\n  path {folder}/Data.fs\n{blobs}</filestorage>"
            self._zeo = run_zeo(folder, served)
        self._opened: list[Any] = []

    @property
    def shared(self) -> bool:
        """Whether the files of the base lie in one directory, which a ``<blobdirsource>`` reads."""
        return self.kind not in ("sqlite", "postgresql", "zeo")

    @property
    def source(self) -> str:
        if self.shared:
            return f"<blobdirsource>\n  path {self.blobs}\n  mirror off\n</blobdirsource>"
        return "<basesource>\n  mirror off\n</basesource>"

    def base(self, process: str = "") -> str:
        """The section that the site had, and has again. ``process``: whose folder it is, where each has its own."""
        if self.kind in ("filestorage", "blobstorage"):
            inner = f"path {self.folder}/Data.fs"
            if self.kind == "filestorage":
                return f"<filestorage>\n  {inner}\n  blob-dir {self.blobs}\n</filestorage>"
            nested = f"<filestorage>\n    {inner}\n  </filestorage>"
            return f"<blobstorage>\n  blob-dir {self.blobs}\n  {nested}\n</blobstorage>"
        blobs = self.blobs if self.shared else self.folder / f"fetched{process}"
        where = f"blob-dir {blobs}\n  shared-blob-dir {'on' if self.shared else 'off'}"
        if self._zeo is not None:
            return f"<zeoclient>\n  server 127.0.0.1:{self._zeo[0]}\n  storage main\n  {where}\n</zeoclient>"
        adapter = f"<sqlite3>\n    data-dir {self.folder}/sqlite\n  </sqlite3>"
        if self.kind == "postgresql":
            adapter = f"<postgresql>\n    dsn {self._postgresql.dsn(self._database)}\n  </postgresql>"
        return f"<relstorage>\n  {where}\n  {adapter}\n</relstorage>"

    def old(self, process: str = "") -> str:
        """The configuration without this package."""
        return f"{self._imports()}{self.base(process)}"

    def new(self, *more: str, keep: str = "on", process: str = "", base: str = "") -> str:
        """The configuration with it, which reads what the old one committed."""
        lines = [f"keep-in-base {keep}", "owner www.example.org", *more]
        around = section(self.store, self.folder / f"cache{process}", base or self.base(process), *lines)
        return f"%import collective.s3blobstorage\n{self._imports()}{around}"

    def alone(self) -> str:
        """The configuration of the end: the base without blobs, no source."""
        if self.kind == "blobstorage":
            return self.new(keep="off", base=f"<filestorage>\n  path {self.folder}/Data.fs\n</filestorage>")
        lines = self.base("alone").splitlines(keepends=True)
        base = "".join(line for line in lines if "blob-dir" not in line)
        return self.new(keep="off", base=base)

    def _imports(self) -> str:
        return "%import relstorage\n" if self.kind in ("sqlite", "sqlite-shared", "postgresql") else ""

    def db(self, configuration: str) -> ZODB.DB:
        db = ZODB.DB(ZODB.config.storageFromString(configuration))
        self._opened.append(db)
        return db

    def cold(self) -> None:
        """Close everything, and forget what this machine has of the bucket, and of the base where that has it too."""
        self.shut()
        for path in self.folder.glob("cache*"):
            shutil.rmtree(path)
        for path in self.folder.glob("fetched*"):
            shutil.rmtree(path)

    def left(self) -> list[str]:
        """What lies in the temporary folders of the base."""
        folders = [path for path in self.folder.glob("*/tmp") if path.parent.name in ("blobs", "fetched")]
        assert folders
        return [path.name for folder in folders for path in folder.iterdir()]

    def shut(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def close(self) -> None:
        self.shut()
        if self._zeo is not None:
            self._zeo[1].terminate()
            self._zeo[1].wait()
        if self._database:
            self._postgresql.drop_database(self._database)

    def path(self, oid: bytes, tid: bytes) -> Path:
        """The file of that revision in the shared directory."""
        return Path(FilesystemHelper(str(self.blobs)).getBlobFilename(oid, tid))
