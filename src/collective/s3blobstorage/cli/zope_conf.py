"""``s3blobs zope-conf FILE``: writes ``<s3blobstorage>`` into a file of configuration, or changes it there."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import ZConfig
from ZConfig.substitution import substitute

from ..config_keys import KEYS, NOT_SHOWN
from ..errors import ConfigurationError
from . import output
from .conf_text import BlobDir, changed
from .configuration import parse_text
from .request import Request, pass_request

# Their values belong neither into a file nor on a command line, which every process of the machine can read.
_SECRETS = ("s3-secret-key", "s3-session-token", "s3-sse-customer-key")
_VARIABLE = re.compile(r"\$\([A-Za-z_][A-Za-z0-9_]*\)")
# Lines whose value a diff does not show: ours, those of <key>, and what storages have for the database's password.
_SECRET_LINE = re.compile(
    rf"(?i)^([ +-]\s*(?:#\s*)?(?:{'|'.join(_SECRETS)}|s3-access-key|value|command|passw(?:or)?d|passwd)\s+)"
    r"(?!\$\(|\$\{?[a-z]).+"
)
_PASSWORD_IN_LINE = re.compile(
    r"(?i)(passw(?:or)?d\s*=\s*)('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s'\"]+)|(://[^:/@\s]+:)[^@\s]+(?=@)"
)

_KEPT_BY = {
    "zeoclient": "is a cache of blobs that the ZEO server keeps, which are not in the bucket",
    "relstorage": "is a cache of blobs that the database keeps, which are not in the bucket",
}


def _key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each key of the section, explained by the first sentence of its description."""
    component = ElementTree.parse(str(resources.files("collective.s3blobstorage") / "component.xml"))
    meanings = {
        element.attrib["name"]: " ".join((element.findtext("description") or "").split())
        for element in component.iter("key")
    }
    for name in reversed(KEYS):
        text = meanings[name].partition(". ")[0].rstrip(".") + "."
        option = click.option(f"--{name}", f"key_{name.replace('-', '_')}", metavar="VALUE", help=text)
        command = option(command)
    return command


@click.command("zope-conf")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, as a diff, and write nothing.")
@click.option("--database", "database_name", metavar="NAME", help="Which one, where the file has several storages.")
@click.option(
    "--blobs-migrated",
    is_flag=True,
    help="The blobs of the blob-dir that the storage has now are in the bucket already, or nobody needs them.",
)
@click.option(
    "--blobs-stay",
    is_flag=True,
    help="The blobs of the blob-dir that the storage has now are read from where they are: a source is put into the "
    "section.",
)
@click.option("--no-backup", is_flag=True, help="Keep no copy of the file as it was (FILE.bak-TIME).")
@_key_options
@pass_request
def zope_conf(
    request: Request,
    file: Path,
    dry_run: bool,
    database_name: str | None,
    blobs_migrated: bool,
    blobs_stay: bool,
    no_backup: bool,
    **keys: str | None,
) -> int:
    """Put <s3blobstorage> around the storage in FILE, or change its keys.

    FILE is a zope.conf, a zeo.conf, or a file with storages alone. Comments and formatting stay. The blob-dir of the
    storage inside is commented out, unless keep-in-base is on; %import is added; a configuration of zodb-s3blobs
    becomes one of this package. Doing it again changes nothing. A value is written as the file has it: '$(NAME)' reads
    the environment variable.
    """
    if blobs_migrated and blobs_stay:
        raise click.UsageError("--blobs-migrated and --blobs-stay are two ways: give one.")
    values = checked_values({name.removeprefix("key_").replace("_", "-"): value for name, value in keys.items()})
    text = _read(file)
    try:
        result = changed(text, values, database_name or request.database_name, blobs_stay=blobs_stay)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    if result.text == text:
        print(f"{file}: nothing to change")
        return 0
    unset = _verify(result.text, file)
    if dry_run:
        print("".join(shown_diff(text, result.text, str(file))), end="")
    if not blobs_migrated:
        for blob_dir in result.blob_dirs:
            _refuse_blobs(blob_dir, result.defines)
    if not dry_run:
        backup = None if no_backup else _backup(file)
        _write(file, result.text)
        print(f"{file}: changed" + (f"; as it was: {backup}" if backup else ""))
    if unset:
        output.complain(f"not checked, since not set here: {', '.join(sorted(unset))}")
    return 0


def checked_values(values: Mapping[str, str | None]) -> dict[str, str]:
    """The values that were given, in the order of the keys. Raises ConfigurationError for one that is not allowed."""
    given = {}
    for name, key in KEYS.items():
        value = values.get(name)
        if value is None:
            continue
        if not value.isprintable():
            raise ConfigurationError(f"--{name} holds a line end or another character that cannot stand in a line")
        value = value.strip()
        if name in _SECRETS and not _VARIABLE.fullmatch(value):
            other = " or --s3-secret-key-file FILE" if name == "s3-secret-key" else ""
            raise ConfigurationError(
                f"--{name} would put a secret into the file and the list of processes; name the environment variable "
                f"that has it. Example: --{name} '{key.example}'{other}"
            )
        if "$" not in value:
            key(value)
        given[name] = value
    return given


def shown_diff(before: str, after: str, name: str) -> Iterator[str]:
    """A unified diff whose values of secrets are not shown."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for line in difflib.unified_diff(old, new, name, f"{name} (changed)"):
        end = "\n" if line.endswith("\n") else "\n\\ No newline at end of file\n"
        line = _SECRET_LINE.sub(rf"\1{NOT_SHOWN}", line.rstrip("\r\n"))
        line = _PASSWORD_IN_LINE.sub(lambda found: f"{found[1] or found[3]}{NOT_SHOWN}", line)
        yield line + end


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not encoded as UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


def _verify(text: str, file: Path) -> set[str]:
    """Let ZConfig read the text before it is written; the environment variables that are not set here."""
    try:
        databases, unset = parse_text(text, file)
    except ConfigurationError as error:
        raise ConfigurationError(f"nothing was written, since the result would not be read: {error}") from None
    if not databases:
        raise ConfigurationError(f"nothing was written: {file} would have no <s3blobstorage> that ZConfig finds")
    return unset


def _refuse_blobs(blob_dir: BlobDir, defines: Mapping[str, str]) -> None:
    where = f"blob-dir {blob_dir.path} of <{blob_dir.type}>"
    again = (
        "copy them there first (s3blobs migrate), then repeat with --blobs-migrated; or give --blobs-stay, and they "
        "are read from there"
    )
    try:
        known: dict[str, str] = {}
        for name, text in defines.items():
            with contextlib.suppress(ZConfig.ConfigurationError):
                known[name] = substitute(text, known)
        path = Path(os.path.expanduser(substitute(blob_dir.path, known)))
    except ZConfig.ConfigurationError as error:
        raise ConfigurationError(f"whether {where} holds blobs cannot be seen ({error}); {again}") from None
    try:
        holds = _holds_blobs(path)
    except OSError as error:
        raise ConfigurationError(f"whether {where} holds blobs cannot be seen ({error}); {again}") from None
    if holds:
        cache = None if blob_dir.shared else _KEPT_BY.get(blob_dir.type)
        what = cache or "holds blobs, which are not in the bucket"
        raise ConfigurationError(f"the folder {path}, {where}, {what}: {again}")


def _holds_blobs(folder: Path) -> bool:
    """Whether there is a blob, in any of ZODB's layouts. Stops at the first one."""

    def let_through(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    walk = os.walk(folder, onerror=let_through)
    return any(name.endswith(".blob") for _, _, names in walk for name in names)


def _backup(file: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for number in range(100):
        backup = file.with_name(f"{file.name}.bak-{stamp}" + (f"-{number}" if number else ""))
        if not backup.exists():
            return Path(_copied(file, backup))
    raise ConfigurationError(f"{file}.bak-{stamp} and 99 more are there already; remove them, or give --no-backup")


def _copied(file: Path, target: Path) -> Path:
    try:
        _put(target, file.read_bytes(), file.stat(), file)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}; or give --no-backup") from None
    return target


def _write(file: Path, text: str) -> None:
    target = file.resolve()  # a link stays a link
    try:
        _put(target, text.encode(), target.stat(), target)
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be replaced by a file with the same owner and mode: {error.strerror}; run this as its "
            "owner, or as root, with a folder that can be written"
        ) from None


def _put(target: Path, content: bytes, status: os.stat_result, like: Path) -> None:
    """Write the whole file under another name beside it, then rename: who reads it sees the one or the other."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.fstat(descriptor).st_gid):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            shutil.copystat(like, name)  # mode and extended attributes
            os.utime(name)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
