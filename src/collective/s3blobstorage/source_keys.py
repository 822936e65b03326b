"""The keys of the sources' sections inside ``<s3blobstorage>``: ``config_keys`` for what they share with it, and more.

``component.xml`` names them as datatypes, as those of ``config_keys``. The name of a section's key may be the same as
that of another one's with other values, so each section has a table of its own.
"""

from __future__ import annotations

from functools import partial

from . import config_keys, datatypes
from .config_keys import Key, named_key

# Every source

name = Key(
    "name",
    datatypes.optional(datatypes.source_name),
    "1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first; empty: as if not given",
    "production",
)
fork_tid = Key(
    "fork-tid",
    datatypes.optional(datatypes.tid),
    "the 16 hex digits of a transaction id, perhaps behind 0x; empty: as if not given",
    "040a1b2c3d4e5f60",
)
fork_time = Key(
    "fork-time",
    datatypes.optional(datatypes.moment),
    "date and time in UTC with a T between them and a Z behind; empty: as if not given",
    "2026-11-01T12:00:00Z",
)
negative_cache = Key(
    "negative-cache",
    partial(datatypes.interval, minimum=0.0, maximum=7 * datatypes.DAY),
    "0 to 7d: seconds, or a figure with s, m, h or d; 0: not at all",
    "10m",
)
max_size = Key(
    "max-size",
    datatypes.optional(datatypes.size),
    "1 byte to 1024PB: bytes, or a figure with KB, MB, GB, TB or PB (by 1024); empty: as if not given",
    "100MB",
)
mirror = Key("mirror", datatypes.mirror, "on, off (also true, false, yes, no) or background", "off")

# One type of source

layout = Key(
    "layout", partial(datatypes.choice, choices=("ours", "zodb-s3blobs")), "ours, zodb-s3blobs", "zodb-s3blobs"
)
timeout = Key(
    "timeout",
    partial(datatypes.interval, minimum=0.1, maximum=600.0),
    "0.1s to 10m: seconds, or a figure with s, m, h or d",
    "10s",
)
path = Key("path", datatypes.directory, "a blob directory of ZODB; it may be absent at the start", "/srv/plone/blobs")

_COMMON = (name, mirror, fork_tid, fork_time, negative_cache, max_size)
_OF_THE_STORE = (
    config_keys.bucket_name,
    config_keys.s3_prefix,
    config_keys.s3_endpoint_url,
    config_keys.s3_provider,
    config_keys.s3_region,
    config_keys.s3_access_key,
    config_keys.s3_secret_key,
    config_keys.s3_secret_key_file,
    config_keys.s3_session_token,
    config_keys.s3_profile,
    config_keys.s3_use_ssl,
    config_keys.s3_ca_bundle,
    config_keys.s3_addressing_style,
    config_keys.s3_expected_bucket_owner,
    config_keys.s3_sse_customer_key,
    config_keys.require_encryption,
    config_keys.s3_download_connect_timeout,
    config_keys.s3_download_read_timeout,
    config_keys.s3_download_max_attempts,
    config_keys.download_deadline,
    config_keys.s3_max_pool_connections,
)

# Section type -> its keys by name, in the order of component.xml.
KEYS: dict[str, dict[str, Key]] = {
    "s3source": {key.name: key for key in (*_OF_THE_STORE, layout, timeout, *_COMMON)},
    "blobdirsource": {key.name: key for key in (path, *_COMMON)},
    "basesource": {key.name: key for key in _COMMON},
}


def s3source_key(text: str) -> str:
    return named_key(text, "s3source", KEYS["s3source"])


def blobdirsource_key(text: str) -> str:
    return named_key(text, "blobdirsource", KEYS["blobdirsource"])


def basesource_key(text: str) -> str:
    return named_key(text, "basesource", KEYS["basesource"])
