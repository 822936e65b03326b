"""Text of zope.conf to values: pure functions, one per kind of value.

Each takes the text of one key as ZConfig passes it (blanks at both ends stripped, ``$(NAME)`` replaced by the
environment) and returns the value, or raises ConfigurationError with the *reason* only, as half a sentence ("is not a
number"). ``config.Key`` puts the key's name, the value, what is allowed and an example around it. They run wherever
ZConfig parses, in its thread; only ``ca_bundle`` and ``secret_file`` open a file, ``directory`` looks whether one is
in its place.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
import math
import os
import re
import shlex
import ssl
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from persistent.TimeStamp import TimeStamp

from .encryption.ring import is_key_id
from .encryption.secret import SecretBytes
from .errors import ConfigurationError
from .settings import MODES, RETENTIONS, MinFree, Retention

logger = logging.getLogger(__name__)

T = TypeVar("T")

KB = 1024  # as ZConfig's byte-size and so zodb-s3blobs count
MB = KB**2
EB = KB**6
DAY = 86400.0
# Percent of a disk. With more, the cache would be evicted for space that is there for it.
MOST_FREE = 90

# Amazon S3 User Guide, "General purpose bucket naming rules"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What botocore lets through (botocore.handlers.VALID_BUCKET), but for names that could be taken for a path or an
# option: buckets made before 2018 in us-east-1, and Ceph's with rgw_relaxed_s3_bucket_names.
_OLD_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9_]")
# botocore.utils.validate_region_name
_REGION = re.compile(r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# botocore.utils.is_valid_endpoint_url: an underscore is refused there, later and with less of an explanation
_HOST = re.compile(r"(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)*(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(?:([KMGTP])I?)?B?", re.IGNORECASE)
_INTERVAL = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *([smhd]?)", re.IGNORECASE)
_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_-]{0,63}")
_BUCKET_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@$+=:-]{0,127}")
_PROFILE = re.compile(r"[A-Za-z0-9_.@+:/=,-]+(?: [A-Za-z0-9_.@+:/=,-]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Keys of a storage in the parent folder with which a prefix must not coincide: its owner marker, what its checks
# write, its ledger of garbage collection, the objects of one oid, and uploads. On stores that keep objects as files one
# name cannot be both.
_RESERVED = re.compile(
    r"(?:^|/)(?:\.s3blobs\.json|\.s3blobs-check|gc/ledger|gc/locked|blobs/[0-9a-f]{16}|uploads/[0-9a-f]{32})(?:/|$)"
)

# Amazon S3 User Guide, "Storage classes": an object in these cannot be read without a restore that takes hours.
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})

KEY = 32  # bytes: of AES-256

_SECRET_FILE_LIMIT = 4096  # bytes; a longer file is a wrong file (a secret key of AWS has 40)


class Secret:
    """Text that shows itself nowhere: not in ``repr``, ``str``, a format, or a pickle.

    ``reveal()`` is the only way to it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def optional(convert: Callable[[str], T]) -> Callable[[str], T | None]:
    """The same conversion, but an empty text is as if the key were not there.

    ``s3-region $(S3_REGION)`` with an empty variable is that: boto3's own chain decides.
    """

    def convert_unless_empty(text: str) -> T | None:
        return convert(text) if text else None

    return convert_unless_empty


def _not_empty(text: str) -> None:
    if not text:
        raise ConfigurationError("is empty")


# Names


def bucket_name(text: str) -> str:
    """A bucket, by S3's rules or, for the buckets of old, by what botocore accepts. See ``is_dns_bucket``."""
    _not_empty(text)
    if text.startswith("arn:"):
        raise ConfigurationError(
            "is an ARN; for an access point give its alias, which works wherever a bucket's name does"
        )
    if "://" in text or "/" in text:
        raise ConfigurationError(
            "holds a slash; give the bucket alone, a folder in it with s3-prefix, and the host with s3-endpoint-url"
        )
    if ".." in text:
        raise ConfigurationError("holds two dots in a row")
    if text.endswith("--x-s3"):
        raise ConfigurationError("is a directory bucket; its listings are not sorted, which cleaning up relies on")
    if text.endswith("--ol-s3"):
        raise ConfigurationError("is an Object Lambda access point; it cannot be written")
    if not _BUCKET.fullmatch(text) and not _OLD_BUCKET.fullmatch(text):
        raise ConfigurationError("is not the name of a bucket")
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return text
    raise ConfigurationError("looks like an IP address")


def is_dns_bucket(name: str) -> bool:
    """Whether the name can be part of a host name, as ``s3-addressing-style virtual`` needs it."""
    return bool(_BUCKET.fullmatch(name))


def prefix(text: str) -> str:
    """The folder in the bucket without slashes at its end; "" is the bucket's root.

    A slash at the start is refused and not stripped: ``/site/blobs`` and ``site/blobs`` are different keys, and
    zodb-s3blobs, which strips the end only, has stored under the first.
    """
    stripped = text.rstrip("/")
    if not stripped:
        return ""
    if stripped.startswith("/"):
        raise ConfigurationError("starts with a slash; a key in a bucket has no root folder, leave the slash out")
    for segment in stripped.split("/"):
        if not segment:
            raise ConfigurationError("has two slashes in a row")
        if ".." in segment or not segment.strip("."):
            raise ConfigurationError("holds a part '.' or '..'")
        if not _SEGMENT.fullmatch(segment):
            raise ConfigurationError("holds a character that is not allowed")
    if _RESERVED.search(stripped):
        raise ConfigurationError("is a name that a storage in the folder above would use for its own objects")
    if len(stripped) > 512:  # a key has 1,024 bytes; ours need 60 of them, and other prefixes may be nested
        raise ConfigurationError(f"is {len(stripped)} characters long")
    return stripped


def endpoint_url(text: str) -> str:
    """Scheme, host and port of a store, in lower case and without a slash at the end."""
    origin, path = _url(text)
    if path not in ("", "/"):
        raise ConfigurationError("holds a path; the bucket belongs into bucket-name and a folder in it into s3-prefix")
    return origin


def origins(text: str) -> tuple[str, ...]:
    """Sites as browsers name them in ``Origin``: blanks or commas between them, each once, in their order."""
    return tuple(dict.fromkeys(origin(word) for word in text.replace(",", " ").split()))


def origin(text: str) -> str:
    """Scheme, host and port of a site in the form that browsers send: the port that a scheme has anyway is left out.

    ``*`` and patterns with one are refused: the pages of any site that they cover could upload with what they find out.
    """
    if "*" in text:
        raise ConfigurationError("holds a *, which would admit the pages of other sites; write each site out")
    if "@" in text:
        raise ConfigurationError("holds a user or password, which an origin has not")
    if "_" in text:
        raise ConfigurationError("has a host with an underscore, which no host of a site has")
    address, path = _url(text)
    if path not in ("", "/"):
        raise ConfigurationError("holds a path; an origin ends with its host or port, and has all sites of that host")
    for scheme, port in (("http", ":80"), ("https", ":443")):
        if address.startswith(f"{scheme}://"):
            address = address.removesuffix(port)
    return address


def url_base(text: str) -> str:
    """As ``endpoint_url``, and perhaps a path, without a slash at the end."""
    origin, path = _url(text)
    return origin + location(path.rstrip("/")) if path.rstrip("/") else origin


def location(text: str) -> str:
    """A path that means the same to everybody: nothing is encoded in it, and no part leads upwards."""
    _not_empty(text)
    parts = text.rstrip("/").split("/")
    if parts[0] or len(parts) < 2:
        raise ConfigurationError("does not begin with a slash and a name")
    if not all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts[1:]):
        raise ConfigurationError("has a part in its path that is empty, or . or .., or holds another character")
    return "/".join(parts)


def _url(text: str) -> tuple[str, str]:
    """Scheme, host and port in lower case, and what follows them."""
    _not_empty(text)
    if _CONTROL.search(text) or re.search(r"\s", text):
        raise ConfigurationError("holds a blank or a control character")
    if "://" not in text:
        raise ConfigurationError("has no scheme; write http:// or https:// before the host")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError("is not a URL: brackets or port are wrong") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError("has a scheme other than http or https")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("holds a user or password; they belong into s3-access-key and s3-secret-key")
    if "?" in text or "#" in text:
        raise ConfigurationError("holds a query or a fragment; an address ends before them")
    host = parts.hostname or ""
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ConfigurationError("is not a URL: the address in brackets is not IPv6") from None
        host = f"[{host}]"
    elif not host:
        raise ConfigurationError("has no host")
    elif "_" in host:
        raise ConfigurationError("has a host with an underscore, which boto3 refuses; give the host another name")
    elif len(host) > 253 or not _HOST.fullmatch(host):
        raise ConfigurationError("has a host that is not one (a name with other letters is written in its xn-- form)")
    if port is not None and not 0 < port < 65536:
        raise ConfigurationError("has a port outside 1 to 65535")
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else ""), parts.path


def region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ConfigurationError("is not a region")
    return text


def profile(text: str) -> str:
    if len(text) > 128 or not _PROFILE.fullmatch(text):
        raise ConfigurationError("is not the name of a profile")
    return text


def owner(text: str) -> str:
    """The name of the site that a prefix belongs to.

    An empty text is an error: what guards a prefix must not vanish with an unset variable.
    """
    _not_empty(text)
    if not _OWNER.fullmatch(text):
        raise ConfigurationError("is not a name of an owner")
    return text


def source_name(text: str) -> str:
    """What a source behind the bucket is called in messages and the log."""
    _not_empty(text)
    if not _OWNER.fullmatch(text):
        raise ConfigurationError("is not a name of a source")
    return text


def bucket_owner(text: str) -> str:
    """The account that must own the bucket. Empty is an error, as of ``owner``."""
    _not_empty(text)
    if re.fullmatch(r"[0-9]{4}-[0-9]{4}-[0-9]{4}", text):
        raise ConfigurationError("is written with dashes; give the 12 digits alone")
    if not _BUCKET_OWNER.fullmatch(text) or (text.isdigit() and len(text) != 12):
        raise ConfigurationError("is not an account")
    return text


def is_aws_account(name: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{12}", name))


def storage_class(text: str) -> str:
    if not _STORAGE_CLASS.fullmatch(text):
        raise ConfigurationError("is not a storage class")
    if text in ARCHIVES:
        raise ConfigurationError("is an archive; a blob in it could not be read without a restore that takes hours")
    if text == "EXPRESS_ONEZONE":
        raise ConfigurationError("exists in directory buckets only, which cannot be used")
    return text


# Choices and figures


def boolean(text: str) -> bool:
    lower = text.lower()
    if lower in ("on", "true", "yes"):
        return True
    if lower in ("off", "false", "no"):
        return False
    raise ConfigurationError("is empty" if not text else "is neither on nor off")


def addressing_style(text: str) -> str:
    lower = text.lower()
    if lower not in ("auto", "path", "virtual"):
        raise ConfigurationError("is empty" if not text else "is not an addressing style")
    return lower


def choice(text: str, *, choices: tuple[str, ...]) -> str:
    lower = text.lower()
    if lower not in choices:
        raise ConfigurationError("is empty" if not text else "is none of the choices")
    return lower


def size(text: str, *, minimum: int = 1, maximum: int = EB) -> int:
    """Bytes: ``1073741824``, ``500 MB``, ``1.5GB``, ``2TB``. Units count by 1024; ``GiB`` is ``GB``."""
    _not_empty(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigurationError("is negative" if text.startswith("-") else "is not a size")
    figure, unit = match.groups()
    factor = KB ** (" KMGTP".index(unit.upper())) if unit else 1
    if factor == 1 and "." in figure:
        raise ConfigurationError("is a fraction of a byte")
    if len(figure) > 30:
        raise ConfigurationError("is too large")
    # Whole figures stay exact above 2**53, where a float would not.
    value = int(figure) * factor if "." not in figure else round(float(figure) * factor)
    if value < minimum:
        raise ConfigurationError("is too small")
    if value > maximum:
        raise ConfigurationError("is too large")
    return value


def min_free(text: str) -> MinFree:
    """What stays free of a disk: ``5%`` of it, or a size, also 0."""
    _not_empty(text)
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) *%", text)
    if match is None:
        if text.endswith("%"):
            raise ConfigurationError("is negative" if text.startswith("-") else "is not a percentage")
        return MinFree(size=size(text, minimum=0))
    if (percent := float(match[1])) > MOST_FREE:
        raise ConfigurationError("is too large")
    return MinFree(share=percent / 100)


def fill_on_commit(text: str) -> str:
    """``on``, ``off`` or ``small``."""
    if text.lower() == "small":
        return "small"
    try:
        return "on" if boolean(text) else "off"
    except ConfigurationError:
        raise ConfigurationError("is empty" if not text else "is neither on, off nor small") from None


def delivery_modes(text: str) -> frozenset[str]:
    """``stream`` is always among them: it is what is left where nothing else can be done."""
    modes = text.replace(",", " ").lower().split()
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ConfigurationError("names a mode that does not exist" if modes else "is empty")
    return frozenset(modes) | {"stream"}


def mirror(text: str) -> str:
    """``on``, ``off`` or ``background``."""
    if text.lower() == "background":
        return "background"
    try:
        return "on" if boolean(text) else "off"
    except ConfigurationError:
        raise ConfigurationError("is empty" if not text else "is neither on, off nor background") from None


def interval(text: str, *, minimum: float, maximum: float) -> float:
    """Seconds: ``30``, ``0.5``, ``30s``, ``5m``, ``2h``, ``7d``."""
    _not_empty(text)
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ConfigurationError("is negative" if text.startswith("-") else "is not an interval")
    figure, unit = match.groups()
    value = float(figure) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}[unit.lower()]
    if value < minimum:
        raise ConfigurationError("is too short")
    if value > maximum or math.isinf(value):
        raise ConfigurationError("is too long")
    return value


def retention(text: str) -> Retention:
    """A mode and a time: ``governance 30d``, ``compliance 7y``; a year has 365 days."""
    mode, _, time = text.partition(" ")
    if mode.lower() not in RETENTIONS:
        raise ConfigurationError("does not begin with governance or compliance")
    return Retention(mode.lower(), period(time.strip(), minimum=60.0, maximum=36500 * DAY))


def period(text: str, *, minimum: float, maximum: float) -> float:
    """As ``interval``, and ``7y``: a year has 365 days."""
    years = re.fullmatch(r"([0-9]{1,3}) *[yY]", text)
    return interval(f"{int(years[1]) * 365}d" if years else text, minimum=minimum, maximum=maximum)


def tid(text: str) -> bytes:
    """A transaction id: 16 hex digits, as the log and ``s3blobs`` print it, perhaps behind ``0x``."""
    _not_empty(text)
    if not re.fullmatch(r"(?:0[xX])?[0-9a-fA-F]{16}", text):
        raise ConfigurationError("is not a transaction id")
    return bytes.fromhex(text[-16:])


def moment(text: str) -> bytes:
    """A moment in UTC as the last transaction id that it allows: ``2026-11-01T12:00:00Z``."""
    _not_empty(text)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z", text):
        raise ConfigurationError("is not a moment in UTC")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("is no date and time of the calendar") from None
    if at.year < 1980:
        raise ConfigurationError("is before any transaction")
    return TimeStamp(at.year, at.month, at.day, at.hour, at.minute, at.second).raw()


def integer(text: str, *, minimum: int, maximum: int) -> int:
    _not_empty(text)
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        raise ConfigurationError("is not a whole number")
    value = int(text)
    if value < minimum:
        raise ConfigurationError("is too small")
    if value > maximum:
        raise ConfigurationError("is too large")
    return value


# Paths


def path(text: str) -> Path:
    """An absolute path: ``~`` is expanded, a relative one is taken from the working directory of this moment.

    That is what FileStorage and zodb-s3blobs do; made absolute here, it stays the same where the process changes its
    directory later.
    """
    _not_empty(text)
    if _CONTROL.search(text):
        raise ConfigurationError("holds a control character")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ConfigurationError("names a user that does not exist")
    return Path(os.path.abspath(expanded))


def directory(text: str) -> Path:
    """A folder, which need not exist yet."""
    place = path(text)
    if place == Path(place.anchor):
        raise ConfigurationError("is the root of the file system; give a folder of its own")
    try:
        wrong = place.exists() and not place.is_dir()
    except OSError as error:  # a part of it is longer than the file system takes
        raise ConfigurationError(f"cannot be used: {error.strerror}") from None
    if wrong:
        raise ConfigurationError("is there, but is not a folder")
    return place


def ca_bundle(text: str) -> Path:
    """A file of certificates that Python's TLS can load."""
    place = path(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(place))
    except FileNotFoundError:
        raise ConfigurationError("does not exist") from None
    except IsADirectoryError:
        raise ConfigurationError("is a folder; put the certificates into one file") from None
    except ssl.SSLError:
        raise ConfigurationError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}") from None
    return place


# Secrets: their conversion never fails. ZConfig keeps the text that failed on the exception, where a report of errors
# that shows attributes or local variables would find it. What is wrong with them is said when the section is complete.


def secret(text: str) -> Secret | None:
    return Secret(text) if text else None


def secret_or_empty(text: str) -> Secret:
    """As ``secret``, but an empty text stays: what must not vanish with an unset variable is refused later."""
    return Secret(text)


def check_credential(text: str) -> None:
    """Raise where the text cannot be a key or token: they are printable ASCII without blanks."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ConfigurationError("holds a blank, a control character or a letter outside ASCII")


def key_bytes(text: str) -> SecretBytes:
    """A key of 32 bytes in base64, with or without ``=`` at its end; blanks and line ends around it are dropped."""
    text = text.strip()
    _not_empty(text)
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        # These are base64 too, of 48 bytes: say what it is instead of counting.
        raise ConfigurationError("is 64 hex digits, not base64")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError("is not base64") from None
    if len(key) != KEY:
        raise ConfigurationError(f"is {len(key)} bytes in base64, not {KEY}")
    return SecretBytes(key)


def key_id(text: str) -> str:
    """The id of a key, in lower case as ZConfig gives the names of sections."""
    _not_empty(text)
    lower = text.lower()
    if not is_key_id(lower):
        raise ConfigurationError("is not the id of a key")
    return lower


def kms_key_id(text: str) -> str:
    """Id, ARN or alias of a key at AWS, or what another store calls one; whether it exists, only the store knows."""
    _not_empty(text)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:/_.-]{0,2047}", text):
        raise ConfigurationError("is not the id, ARN or alias of a key")
    return text


def pairs(text: str) -> dict[str, str]:
    """``name=value``, several with blanks between them."""
    _not_empty(text)
    found: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ConfigurationError("holds a word that is not name=value")
        if not re.fullmatch(r"[\x21-\x7e]+", word):
            raise ConfigurationError("holds a control character or a letter outside ASCII")
        if name in found:
            raise ConfigurationError(f"names {name!r} twice")
        if name.lower().startswith("aws:"):
            raise ConfigurationError("holds a name that begins with aws:, which AWS uses itself")
        found[name] = value
    return found


def words(text: str) -> tuple[str, ...]:
    """A program and its arguments, split as a shell does it. For what may hold a secret: see there."""
    try:
        found = tuple(shlex.split(text))
    except ValueError:
        raise ConfigurationError("has a quotation mark without its other half") from None
    if not found or not found[0]:
        raise ConfigurationError("is empty")
    if _CONTROL.search(text):
        raise ConfigurationError("holds a control character")
    return found


def secret_file(text: str) -> Secret:
    """The secret key that a file holds; a line end behind it is dropped. Which files are taken: ``private_file``."""
    try:
        content = private_file(text, "s3-secret-key-file").decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError("does not hold a secret key alone: it has letters outside ASCII") from None
    if not content:
        raise ConfigurationError("is an empty file")
    try:
        check_credential(content)
    except ConfigurationError:
        raise ConfigurationError("does not hold a secret key alone: it has blanks or several lines") from None
    return Secret(content)


def private_key_file(text: str) -> Secret:
    """An RSA key of 2048 bits in PEM, as text."""
    from .signing_key import signing_key  # here: few need it, and it imports a tenth of a second's worth

    pem = private_file(text, "cdn-private-key-file").decode("ascii", "replace")
    signing_key(pem)
    return Secret(pem)


def key_pair_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{1,64}", text):
        raise ConfigurationError("is not the id of a key pair")
    return text


def private_file(text: str, key: str) -> bytes:
    """What it holds. A file that others may write is refused. ``key``: of zope.conf, for the log.

    One that others may read is taken and logged at WARNING: secrets of Docker and Kubernetes are mounted that way
    (modes 0444 and 0644), in a container that has no other users.
    """
    place = path(text)
    try:
        with open(place, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError("is not a file")
            data = file.read(_SECRET_FILE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigurationError("does not exist") from None
    except IsADirectoryError:
        raise ConfigurationError("is a folder") from None
    except OSError as error:
        raise ConfigurationError(f"cannot be read by this process's user: {error.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        raise ConfigurationError(f"may be written by others (mode {mode:04o}); chmod 600")
    if mode & 0o004:
        logger.warning("%s %s may be read by every user of this machine (mode %04o)", key, place, mode)
    if len(data) > _SECRET_FILE_LIMIT:
        raise ConfigurationError(f"holds more than {_SECRET_FILE_LIMIT} bytes, which no secret key has")
    return data


def _open_without_waiting(name: str, flags: int) -> int:
    # A FIFO would keep the start waiting for a writer; O_NONBLOCK means nothing to a regular file.
    return os.open(name, flags | os.O_NONBLOCK)
