"""What a check asks this machine: cache disk, file systems, clock, the database. Leaves nothing behind.

Each check is a method that returns ``(ok, detail, mend)``; ``ok`` None means that it does not apply or could not be
tried. They run one after the other in the thread of the caller.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ZODB.TimeStamp import TimeStamp
from ZODB.utils import z64

from ..encryption.register import RETIRED
from ..errors import ConfigurationError, RecordError
from ..maintenance.key_states import KeyState, key_states
from ..messages import byte_count, one_line
from ..metrics_token import read_token
from ..objectstore.interfaces import IObjectStore
from ..settings import StorageSettings
from ..storage.owner import cache_layout, read_marker
from .use import cache_use, machine_use

Result = tuple[bool | None, str, str]

_SAMPLE = 64 * 1024  # bytes that are written to a folder and read again
# File systems store whole seconds, and a server of files is asked over a network.
_CLOCKS_AGREE = 5.0  # seconds
# ZODB gives a transaction the last one's time and a little more where the clock is behind it: harmless for a minute.
_FUTURE = 60.0  # seconds

_UNKNOWN = "not tried: it is not known whose prefix this is"


class LocalChecks:
    """The checks of one database on this machine. ``base`` looks at the database: what came of it, and its last
    transaction, None where there is none or it is not known."""

    def __init__(
        self, settings: StorageSettings, store: IObjectStore, base: Callable[[], tuple[Result, bytes | None]]
    ) -> None:
        self.settings = settings
        self.store = store
        self._base = base
        self.not_ours = _UNKNOWN  # why nothing may be written into the prefix; "" once ``owner`` found that it may
        self.layout = cache_layout(self.settings, store.identity)
        self._disk_ahead: float | None = None  # seconds, of the clock that stamps files in cache-dir
        self._last_transaction: float | None = None  # seconds since 1970

    # The bucket's garbage

    def garbage(self) -> Result:
        settings = self.settings
        if settings.owner is None:
            return (
                None,
                "nothing is ever deleted from the bucket without owner",
                "owner: name the site, if that shall be",
            )
        keeps = f"an object that nothing refers to goes after gc-keep, {_days(settings.gc_keep)}"
        return True, f"{keeps}: a backup of the database that is older would lack blobs", ""

    # The metrics

    def metrics_token(self) -> Result:
        file = self.settings.metrics_token_file
        if file is None:
            return None, "metrics-token-file is not set", ""
        try:
            read_token(file)
        except ConfigurationError as error:
            detail, _, example = str(error).partition(". Example: ")
            return False, detail, example
        return True, f"{file} holds a token", ""

    # The keys

    def keys(self) -> Result:
        try:
            states = key_states(self.store)
        except RecordError as error:
            return False, one_line(error), "bring an older version of the object below keys/ back"
        if not states:
            return None, "no section has keys, and the bucket knows none", ""
        now = self.store.now()
        told = "; ".join(self._key(each, now) for each in states)
        lost = [each.id for each in states if each.is_lost]
        if lost:
            mend = f"give zope.conf a <key {lost[0]}>, or run s3blobs keys retire {lost[0]} if nothing needs it"
            return False, f"{told}; objects may need {', '.join(lost)}, which zope.conf does not have", mend
        old = [each for each in states if each.writes and self._is_old(each, now)]
        if old:
            mend = "change it, as docs/encryption.md says (Changing keys), or set another key-max-age; 0: never"
            return False, f"{told}; older than key-max-age, {_days(self.settings.key_max_age)}", mend
        new = [each.id for each in states if each.state is None]
        return True, told, f"s3blobs keys add {new[0]}, before anybody writes with it" if new else ""

    def _key(self, each: KeyState, now: datetime) -> str:
        age = each.age(now)
        state = each.state or "not in the bucket yet"
        since = "" if age is None or each.state == RETIRED else f", {_days(max(age, 0.0))} old"
        return f"{each.id} is {state}{since}{', writes' if each.writes else ''}"

    def _is_old(self, each: KeyState, now: datetime) -> bool:
        age, most = each.age(now), self.settings.key_max_age
        return bool(most) and age is not None and age > most

    # The disk

    def cache_dir(self) -> Result:
        try:
            self.layout.check_foreign()
        except ConfigurationError as error:
            detail, _, mend = one_line(error).partition("; ")
            return False, detail, mend
        except OSError as error:
            return False, f"{self.layout.folder} cannot be read: {error.strerror}", _as_site("cache-dir")
        result = self._folder("cache-dir", self.settings.cache_dir)
        if result[0] and self.layout.folder.exists():
            return self._owned() or result
        return result

    def staging_dir(self) -> Result:
        if self.settings.staging_dir is None:
            return None, "not set: files that are being committed lie in cache-dir", ""
        return self._folder("staging-dir", self.settings.staging_dir)

    def _folder(self, key: str, path: Path) -> Result:
        if not path.exists():
            parent = _existing(path)
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                return False, f"{path} is not there, and {parent} does not let us make it", f"{key}: make it by hand"
            return True, f"{path} is made at the first start", ""
        if path.stat().st_mode & 0o002:
            return False, f"everybody on this machine may write to {path}", f"{key}: chmod o-w {path}"
        try:
            ahead = _written_and_read(path)
        except OSError as error:
            mend = f"{key}: make room on its disk" if error.errno == errno.ENOSPC else _as_site(key)
            return False, f"{path} takes no file: {error.strerror or error}", mend
        if key == "cache-dir":
            self._disk_ahead = ahead
        return True, f"{path} takes files", ""

    def _owned(self) -> Result | None:
        owner, us = self.layout.folder.stat().st_uid, os.geteuid()
        if owner == us:
            return None
        detail = f"{self.layout.folder} belongs to {_user(owner)}, and this was run as {_user(us)}"
        if us == 0:
            return None, detail, f"run s3blobs as {_user(owner)}: root may do what the site may not"
        return False, detail, f"cache-dir: run s3blobs as the site's user, or chown -R it to {_user(us)}"

    def cache_space(self) -> Result:
        settings = self.settings
        if cache_use(self.layout) is None:
            return None, "the folder cannot be read by this user", _as_site("cache-dir")
        use = machine_use(settings.cache_dir, settings.cache_size)
        disk = shutil.disk_usage(_existing(settings.cache_dir))
        floor = settings.cache_min_free.of(disk.total)
        growth, room = max(0, settings.cache_size - use.bytes), max(0, disk.free - floor)
        bound = byte_count(settings.cache_size)
        cache = "the encrypted cache" if settings.cache_encrypt else "the cache"
        detail = f"{cache} holds {byte_count(use.bytes)} of {bound}, {byte_count(disk.free)} are free on its disk"
        if disk.free < floor:
            return False, f"{detail}, and {byte_count(floor)} stay free", "cache-min-free: less, or a larger disk"
        if growth <= room:
            return True, detail, ""
        fits = max(1, (use.bytes + room) * 9 // 10 // 1024**2)
        detail = f"{detail}, of which {byte_count(floor)} stay free: it may grow by {byte_count(growth)}"
        return False, detail, f"cache-size {fits}MB, or a larger disk"

    def one_file_system(self) -> Result:
        cache = self.settings.cache_dir
        staging = self.settings.staging_dir or cache
        temporary = Path(tempfile.gettempdir())
        if _device(staging) != _device(cache):
            return (
                False,
                f"staging-dir {staging} and cache-dir {cache} are on two file systems: each committed blob is copied",
                "staging-dir: name a folder on the file system of cache-dir, or leave it out",
            )
        if _device(temporary) != _device(staging):
            key = "staging-dir" if self.settings.staging_dir else "cache-dir"
            return (
                False,
                f"the temporary folder {temporary} and {key} {staging} are on two file systems: each upload is copied",
                f"TMPDIR: set it in the site's environment to a folder on that file system. "
                f"Example: TMPDIR {staging.parent / 'tmp'}",
            )
        unfinished = os.environ.get("TUS_TMP_FILE_DIR")  # plone.restapi's
        if unfinished and _device(Path(unfinished)) != _device(temporary):
            return (
                False,
                f"unfinished tus uploads, in {unfinished}, and the temporary folder {temporary} are on two file"
                " systems: each of them is copied",
                f"TUS_TMP_FILE_DIR: set it in the site's environment to a folder on that file system. "
                f"Example: TUS_TMP_FILE_DIR {temporary.parent / 'tus'}",
            )
        return True, f"staging, cache and the temporary folder {temporary} are on one", ""

    # The database

    def base(self) -> Result:
        result, tid = self._base()
        if tid is None or tid == z64:
            return result
        self._last_transaction = TimeStamp(tid).timeTime()
        ok, detail, mend = result
        return ok, f"{detail}; its last transaction is of {_iso(self._last_transaction)}", mend

    def local_clock(self) -> Result:
        """After ``cache_dir`` and ``base``, which bring the clocks to compare with. The store's is preflight's."""
        now = time.time()
        mend = "correct the clock of this machine (NTP)"
        if self._last_transaction is not None and self._last_transaction > now + _FUTURE:
            ahead = self._last_transaction - now
            return False, f"it is {_iso(now)}, and the last transaction is {ahead:,.0f} s ahead of that", mend
        if self._disk_ahead is not None and abs(self._disk_ahead) > _CLOCKS_AGREE:
            detail = f"files in cache-dir get a time {self._disk_ahead:+,.0f} s from this machine's: its server's clock"
            return False, detail, "correct the clock of the file server or of this machine (NTP)"
        return True, f"it is {_iso(now)}", ""

    # The bucket

    def owner(self) -> Result:
        """Sets ``not_ours`` too, as ``storage.owner.open_prefix`` would decide."""
        ours = self.settings.owner
        try:
            marker = read_marker(self.store)
        except RecordError as error:
            return False, one_line(error), "s3-prefix: name the prefix of this site, or upgrade this process"
        theirs = marker.owner if marker is not None else None
        if theirs is not None and theirs != ours:
            self.not_ours = "not tried: the prefix belongs to another owner"
            detail = f"the prefix belongs to {theirs!r}, and " + (f"owner is {ours!r}" if ours else "owner is not set")
            mend = f"owner {theirs}, if this is that site; for a copy of it another s3-prefix, or read-only on"
            return (None, f"{detail}: it can be read only", "") if self.settings.read_only else (False, detail, mend)
        self.not_ours = ""
        if ours is None:
            return (
                None,
                "owner is not set: a copy of this site with the same configuration could write into the prefix",
                "owner: name the site. Example: owner www.example.org",
            )
        if theirs is None:
            return True, f"the prefix belongs to nobody; the next opening for writing gives it to {ours!r}", ""
        return True, f"the prefix belongs to {ours!r}", ""


def _written_and_read(folder: Path) -> float:
    """Write a file, sync it, read it again, delete it; by how many seconds its time is ahead of ours. OSError."""
    descriptor, name = tempfile.mkstemp(prefix="s3blobs-check-", dir=folder)
    try:
        with open(descriptor, "r+b") as file:
            sample = os.urandom(_SAMPLE)
            file.write(sample)
            file.flush()
            os.fsync(descriptor)
            ahead = os.fstat(descriptor).st_mtime - time.time()
            file.seek(0)
            if file.read() != sample:
                raise OSError(f"{folder} gave back other bytes than were written")
    finally:
        os.unlink(name)
    return ahead


def _days(seconds: float) -> str:
    days = seconds / 86400.0
    return f"{days:.0f} days" if days >= 2 else f"{seconds / 3600.0:.0f} hours"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _device(path: Path) -> int:
    return _existing(path).stat().st_dev


def _as_site(key: str) -> str:
    return f"{key}: let the site's user write there, and run s3blobs as that user"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
