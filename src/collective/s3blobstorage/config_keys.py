"""The keys of ``<s3blobstorage>``: for each its conversion, what is allowed, and an example.

``component.xml`` names them as datatypes, so that ZConfig reports a wrong value with file and line. The default and
the meaning of a key stand in ``component.xml``; docs/configuration.md is made from both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import datatypes
from .errors import ConfigurationError
from .providers import NAMES as PROVIDERS
from .settings import MOST_UPLOADED

NOT_SHOWN = "(value not shown)"


def _shown(text: str) -> str:
    # Long enough for any sane value; a pasted file must not fill the log.
    return repr(text) if len(text) <= 120 else repr(text[:100]) + f"… ({len(text)} characters)"


def _endpoint_shown(text: str) -> str:
    # http://user:password@host or …?X-Amz-Signature=…: wrong here, and not for the log.
    return NOT_SHOWN if "@" in text or "?" in text else _shown(text)


def hidden(text: str) -> str:
    return NOT_SHOWN


@dataclass(frozen=True)
class Key:
    """One key. Called with the text of zope.conf it returns the value, or raises ConfigurationError as a full message.

    ``allowed`` and ``example`` are for people; ``show`` renders a wrong value for the message.
    """

    name: str
    convert: Callable[[str], Any]
    allowed: str
    example: str
    show: Callable[[str], str] = _shown

    def __call__(self, text: str) -> Any:
        try:
            return self.convert(text)
        except ConfigurationError as reason:
            raise self.error(str(reason), text) from None

    def error(self, reason: str, text: str) -> ConfigurationError:
        """The error that says what is wrong with ``text`` and what to write instead."""
        hint = ""
        if "$" in text and self.show is not hidden:
            hint = " The environment variable NAME is read by $(NAME)."
        return ConfigurationError(f"{self.name} {self.show(text)} {reason}.{hint} {self.advice}")

    @property
    def advice(self) -> str:
        return f"Allowed: {self.allowed}. Example: {self.name} {self.example}"


ON_OFF = "on or off (also true, false, yes, no)"
_TIMEOUT = "0.1s to 1d: seconds, or a figure with s, m, h or d"
_timeout = partial(datatypes.interval, minimum=0.1, maximum=datatypes.DAY)
_CREDENTIAL = "printable ASCII without blanks; empty: as if not given"

# The bucket

bucket_name = Key(
    "bucket-name",
    datatypes.bucket_name,
    "3 to 63 of a-z, 0-9, dot and hyphen, a letter or digit at both ends (a bucket of old may also have capital "
    "letters, underscores and up to 255 characters); the alias of an access point, not its ARN",
    "plone-blobs",
)
s3_prefix = Key(
    "s3-prefix",
    datatypes.prefix,
    "parts of letters, digits, dot, hyphen and underscore with single slashes between them, up to 512 characters, "
    "no part '.' or '..', no slash at the start; slashes at the end are dropped; empty is the bucket's root",
    "sites/intranet",
)
s3_endpoint_url = Key(
    "s3-endpoint-url",
    datatypes.optional(datatypes.endpoint_url),
    "http:// or https://, a host and perhaps a port, nothing behind; empty: as if not given",
    "https://s3.example.org:9000",
    _endpoint_shown,
)
s3_public_endpoint_url = Key(
    "s3-public-endpoint-url",
    datatypes.optional(datatypes.endpoint_url),
    "http:// or https://, a host and perhaps a port, nothing behind; empty: as if not given",
    "https://files.example.org",
    _endpoint_shown,
)
s3_region = Key(
    "s3-region",
    datatypes.optional(datatypes.region),
    "1 to 63 letters, digits and hyphens, not digits alone, no hyphen at the ends; empty: as if not given",
    "eu-central-1",
)
s3_addressing_style = Key("s3-addressing-style", datatypes.addressing_style, "auto, path or virtual", "path")
create_bucket = Key("create-bucket", datatypes.boolean, ON_OFF, "on")
s3_expected_bucket_owner = Key(
    "s3-expected-bucket-owner",
    datatypes.bucket_owner,
    "the 12 digits of an AWS account; on another store (with s3-endpoint-url) its user name of up to 128 letters, "
    "digits and ._@$+=:-; not empty",
    "123456789012",
)
owner = Key(
    "owner",
    datatypes.owner,
    "1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first; not empty",
    "www.example.org",
)
storage_class = Key(
    "storage-class",
    datatypes.optional(datatypes.storage_class),
    "STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, REDUCED_REDUNDANCY or a name of the store's "
    "own in capital letters, digits, hyphens and underscores; no archive (GLACIER, DEEP_ARCHIVE); empty: as if not "
    "given",
    "STANDARD_IA",
)

# AWS's longest is 100 years. A minute is of use for trying it out.
retention = Key(
    "retention",
    datatypes.optional(datatypes.retention),
    "governance or compliance, a blank, and 1m to 100y: seconds, or a figure with s, m, h, d or y (365 days); empty: as"
    " if not given",
    "compliance 7y",
)

s3_provider = Key(
    "s3-provider",
    partial(datatypes.choice, choices=("auto", *PROVIDERS)),
    "auto, " + ", ".join(PROVIDERS),
    "b2",
)

# Credentials

s3_access_key = Key("s3-access-key", datatypes.secret, _CREDENTIAL, "$(S3_ACCESS_KEY)", hidden)
s3_secret_key = Key("s3-secret-key", datatypes.secret, _CREDENTIAL, "$(S3_SECRET_KEY)", hidden)
s3_secret_key_file = Key(
    "s3-secret-key-file",
    datatypes.optional(datatypes.secret_file),
    "a file that holds the secret key alone, readable by the site's user, not writable by others; empty: as if not "
    "given",
    "/run/secrets/s3-secret-key",
)
s3_session_token = Key("s3-session-token", datatypes.secret, _CREDENTIAL, "$(S3_SESSION_TOKEN)", hidden)
s3_profile = Key(
    "s3-profile",
    datatypes.optional(datatypes.profile),
    "the name of a profile in AWS's configuration files; empty: as if not given",
    "plone",
)

# The connection

s3_use_ssl = Key("s3-use-ssl", datatypes.boolean, ON_OFF, "on")
s3_ca_bundle = Key(
    "s3-ca-bundle",
    datatypes.optional(datatypes.ca_bundle),
    "a file of certificates in PEM form; empty: as if not given",
    "/etc/ssl/private-ca.pem",
)
s3_sse_customer_key = Key(
    "s3-sse-customer-key",
    datatypes.secret_or_empty,
    "32 bytes in base64 (openssl rand -base64 32); not empty",
    "$(S3_SSE_KEY)",
    hidden,
)
require_encryption = Key("require-encryption", datatypes.boolean, ON_OFF, "on")
s3_connect_timeout = Key("s3-connect-timeout", _timeout, _TIMEOUT, "30s")
s3_read_timeout = Key("s3-read-timeout", _timeout, _TIMEOUT, "5m")
s3_download_connect_timeout = Key("s3-download-connect-timeout", _timeout, _TIMEOUT, "3s")
s3_download_read_timeout = Key("s3-download-read-timeout", _timeout, _TIMEOUT, "15s")
s3_download_max_attempts = Key(
    "s3-download-max-attempts",
    partial(datatypes.integer, minimum=1, maximum=20),
    "a whole number from 1 to 20",
    "3",
)
download_deadline = Key(
    "download-deadline",
    partial(datatypes.interval, minimum=1.0, maximum=7 * datatypes.DAY),
    "1s to 7d: seconds, or a figure with s, m, h or d",
    "10m",
)
outage_patience = Key(
    "outage-patience",
    partial(datatypes.interval, minimum=0.0, maximum=600.0),
    "0 to 10m: seconds, or a figure with s, m, h or d; 0: not at all",
    "35s",
)
s3_max_pool_connections = Key(
    "s3-max-pool-connections",
    partial(datatypes.integer, minimum=1, maximum=1000),
    "a whole number from 1 to 1000",
    "100",
)
upload_concurrency = Key(
    "upload-concurrency",
    partial(datatypes.integer, minimum=1, maximum=256),
    "a whole number from 1 to 256, not above s3-max-pool-connections",
    "32",
)

# This machine

cache_dir = Key("cache-dir", datatypes.directory, "a folder, made where it does not exist", "/var/cache/plone-blobs")
cache_size = Key(
    "cache-size",
    datatypes.size,
    "1 byte to 1024PB: bytes, or a figure with KB, MB, GB, TB or PB (by 1024)",
    "20GB",
)
cache_min_free = Key(
    "cache-min-free",
    datatypes.min_free,
    f"0% to {datatypes.MOST_FREE}% of the disk, or 0 to 1024PB: bytes, or a figure with KB, MB, GB, TB or PB (by "
    "1024); 0: nothing",
    "10GB",
)
cache_fill_on_commit = Key(
    "cache-fill-on-commit", datatypes.fill_on_commit, "on, off (also true, false, yes, no) or small", "on"
)
cache_encrypt = Key("cache-encrypt", datatypes.boolean, ON_OFF, "on")
part_threshold = Key(
    "part-threshold",
    datatypes.size,
    "1 byte to 1024PB: bytes, or a figure with KB, MB, GB, TB or PB (by 1024)",
    "32MB",
)
# Below 64 KB the request costs more than the bytes; above 1 GB a part is what parts are there to avoid.
part_size = Key(
    "part-size",
    partial(datatypes.size, minimum=64 * datatypes.KB, maximum=1024 * datatypes.KB**2),
    "64KB to 1GB: bytes, or a figure with KB, MB or GB (by 1024)",
    "8MB",
)
staging_dir = Key(
    "staging-dir",
    datatypes.optional(datatypes.directory),
    "a folder other than cache-dir, made where it does not exist; empty: as if not given",
    "/var/tmp/plone-blobs",
)
commit_within_cache_size = Key("commit-within-cache-size", datatypes.boolean, ON_OFF, "on")
inline_size = Key(
    "inline-size",
    partial(datatypes.size, minimum=0, maximum=datatypes.MB),
    "0 to 1MB: bytes, or a figure with KB or MB (by 1024)",
    "4KB",
)
dedup = Key("dedup", datatypes.boolean, ON_OFF, "on")
keep_in_base = Key("keep-in-base", datatypes.boolean, ON_OFF, "on")
missing_blob = Key(
    "missing-blob", partial(datatypes.choice, choices=("raise", "placeholder")), "raise, placeholder", "placeholder"
)
gc_grace = Key(
    "gc-grace",
    partial(datatypes.interval, minimum=3600.0, maximum=3650 * datatypes.DAY),
    "1h to 3650d: seconds, or a figure with s, m, h or d",
    "48h",
)
gc_keep = Key(
    "gc-keep",
    partial(datatypes.interval, minimum=0.0, maximum=3650 * datatypes.DAY),
    "0 to 3650d: seconds, or a figure with s, m, h or d; 0: until the next plan",
    "30d",
)
gc_on_pack = Key(
    "gc-on-pack", partial(datatypes.choice, choices=("off", "plan", "execute")), "off, plan, execute", "plan"
)
key_max_age = Key(
    "key-max-age",
    partial(datatypes.interval, minimum=0.0, maximum=3650 * datatypes.DAY),
    "0 to 3650d: seconds, or a figure with s, m, h or d; 0: never",
    "180d",
)
delivery_modes = Key(
    "delivery-modes",
    datatypes.delivery_modes,
    "some of stream, proxy, redirect and x-accel, with blanks between them; stream is always among them",
    "stream proxy",
)
presign_max_expiry = Key(
    "presign-max-expiry",
    partial(datatypes.interval, minimum=60, maximum=7 * datatypes.DAY),
    "1m to 7d: seconds, or a figure with s, m, h or d",
    "15m",
)
public_url_base = Key(
    "public-url-base",
    datatypes.optional(datatypes.url_base),
    "http:// or https://, a host, perhaps a port and a path, nothing behind; empty: as if not given",
    "https://files.example.org/intranet",
    _endpoint_shown,
)
cdn_url_base = Key(
    "cdn-url-base",
    datatypes.optional(datatypes.url_base),
    "http:// or https://, a host, perhaps a port and a path, nothing behind; empty: as if not given",
    "https://d111111abcdef8.cloudfront.net",
    _endpoint_shown,
)
cdn_key_pair_id = Key(
    "cdn-key-pair-id",
    datatypes.optional(datatypes.key_pair_id),
    "1 to 64 letters and digits, as CloudFront shows it; empty: as if not given",
    "K2JCJMDEHXQW5F",
)
cdn_private_key_file = Key(
    "cdn-private-key-file",
    datatypes.optional(datatypes.private_key_file),
    "a file that holds an RSA key of 2048 bits in PEM without a password, readable by the site's user, not writable by "
    "others; empty: as if not given",
    "/run/secrets/cdn-private-key.pem",
)
x_accel_location = Key(
    "x-accel-location",
    datatypes.optional(datatypes.location),
    "a path of letters, digits, dot, hyphen and underscore with a slash before each part; empty: as if not given",
    "/s3blobs",
)
direct_upload = Key("direct-upload", datatypes.boolean, ON_OFF, "off")
direct_upload_max_size = Key(
    "direct-upload-max-size",
    partial(datatypes.size, maximum=MOST_UPLOADED),
    "1 byte to 5TB: bytes, or a figure with KB, MB, GB or TB (by 1024)",
    "20GB",
)
# At least as long as the signed requests of one upload: what is sent slowly must not be swept before it is completed.
upload_expiry = Key(
    "upload-expiry",
    partial(datatypes.interval, minimum=600.0, maximum=7 * datatypes.DAY),
    "10m to 7d, which is how long a signature can last: seconds, or a figure with s, m, h or d",
    "6h",
)
direct_upload_origins = Key(
    "direct-upload-origins",
    datatypes.origins,
    "http:// or https://, a host and perhaps a port, several with blanks between them; no *; empty: none",
    "https://www.example.org https://edit.example.org",
    _endpoint_shown,
)
direct_upload_staging = Key(
    "direct-upload-staging", partial(datatypes.choice, choices=("sse-s3", "none")), "sse-s3, none", "none"
)
note_reads = Key("note-reads", datatypes.boolean, ON_OFF, "on")
read_only = Key("read-only", datatypes.boolean, ON_OFF, "on")
site_operations = Key("site-operations", datatypes.boolean, ON_OFF, "on")
metrics_token_file = Key(
    "metrics-token-file",
    datatypes.optional(datatypes.path),
    "a file with a token of 16 to 1,024 letters, digits and -._~+/ in one line, readable by the site's user, not "
    "writable by others; it may be made later; empty: as if not given",
    "/run/secrets/metrics-token",
)

# The start

preflight = Key("preflight", datatypes.boolean, ON_OFF, "off")
preflight_deadline = Key(
    "preflight-deadline",
    partial(datatypes.interval, minimum=0.0, maximum=datatypes.DAY),
    "0 to 1d: seconds, or a figure with s, m, h or d; 0: one attempt",
    "5m",
)
start_degraded = Key("start-degraded", datatypes.boolean, ON_OFF, "on")

KEYS: dict[str, Key] = {value.name: value for value in list(globals().values()) if isinstance(value, Key)}


def key_name(text: str) -> str:
    """The first word of a line, as a key of the section ``<s3blobstorage>``."""
    return named_key(text, "s3blobstorage", KEYS)


def named_key(text: str, section: str, keys: Mapping[str, Key]) -> str:
    """The first word of a line, as one of the section's keys.

    ZConfig's own messages repeat the word as it stands, and in ``s3-secret-key=…`` or in a secret that was broken into
    two lines it is a secret. Here it is repeated only where it looks like the name of a key.
    """
    name = text.lower()
    if name in keys:
        return name
    before = re.split("[=:]", name, maxsplit=1)[0]
    if before in keys:
        raise ConfigurationError(f"{before} must be followed by a blank, not by '=' or ':'. {keys[before].advice}")
    similar = difflib.get_close_matches(before, keys, n=1)
    if similar:
        advice = keys[similar[0]].advice
        raise ConfigurationError(f"no such key in <{section}>; did you mean {similar[0]}? {advice}")
    shown = repr(text) if re.fullmatch("[a-z]+(-[a-z0-9]+)*", text) and len(text) <= 40 else "(not shown)"
    raise ConfigurationError(f"{shown} is not a key of <{section}>. Its keys: {', '.join(keys) or 'none'}")
