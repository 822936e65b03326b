"""The keys of the encryption sections inside ``<s3blobstorage>`` and ``<s3source>``, and of the sections inside those.

As ``config_keys`` has those of the storage; ``component.xml`` names them as datatypes.
"""

from __future__ import annotations

from . import datatypes
from .config_keys import ON_OFF, Key, hidden, named_key

# Server-side, with keys of a key management service

kms_key_id = Key(
    "kms-key-id",
    datatypes.kms_key_id,
    "id, ARN or alias of a key: 1 to 2048 letters, digits and :/_.-; not empty",
    "alias/plone-blobs",
)
encryption_context = Key(
    "encryption-context",
    datatypes.pairs,
    "name=value, several with blanks between them; printable ASCII without blanks, each name once, none that begins "
    "with aws:",
    "site=intranet department=hr",
)
bucket_key = Key("bucket-key", datatypes.boolean, ON_OFF, "on")
dsse = Key("dsse", datatypes.boolean, ON_OFF, "on")

# Rings of keys of one's own

active_key = Key(
    "active-key",
    datatypes.key_id,
    "the id of one of the section's keys, in lower case; may be left out where there is one",
    "2026-11",
)
file = Key(
    "file",
    datatypes.path,
    "a file that holds 32 bytes in base64, readable by the site's user, not writable by others",
    "/run/secrets/blob-key-2026-11",
)
value = Key(
    "value",
    datatypes.secret_or_empty,
    "32 bytes in base64 (s3blobs keys generate); not empty",
    "$(BLOB_KEY_2026_11)",
    hidden,
)
command = Key(
    "command",
    datatypes.secret_or_empty,
    "a program and its arguments, which are split as a shell does it; no shell runs it",
    "/usr/local/bin/blob-key 2026-11",
    hidden,
)
region = Key(
    "region",
    datatypes.optional(datatypes.region),
    "1 to 63 letters, digits and hyphens, not digits alone, no hyphen at the ends; empty: as if not given",
    "eu-central-1",
)
endpoint_url = Key(
    "endpoint-url",
    datatypes.optional(datatypes.endpoint_url),
    "http:// or https://, a host and perhaps a port, nothing behind; empty: as if not given",
    "https://kms.eu-central-1.amazonaws.com",
)
profile = Key(
    "profile",
    datatypes.optional(datatypes.profile),
    "the name of a profile in AWS's configuration files; empty: as if not given",
    "plone",
)

# Section type -> its keys by name, in the order of component.xml.
KEYS: dict[str, dict[str, Key]] = {
    section: {key.name: key for key in keys}
    for section, keys in {
        "sse-s3": (),
        "sse-kms": (kms_key_id, encryption_context, bucket_key, dsse),
        "sse-c": (active_key,),
        "client-side-encryption": (active_key,),
        "no-encryption": (),
        "key": (file, value, command),
        "kms-key": (kms_key_id, region, endpoint_url, profile),
    }.items()
}


def sse_s3_key(text: str) -> str:
    return named_key(text, "sse-s3", KEYS["sse-s3"])


def sse_kms_key(text: str) -> str:
    return named_key(text, "sse-kms", KEYS["sse-kms"])


def sse_c_key(text: str) -> str:
    return named_key(text, "sse-c", KEYS["sse-c"])


def client_side_encryption_key(text: str) -> str:
    return named_key(text, "client-side-encryption", KEYS["client-side-encryption"])


def no_encryption_key(text: str) -> str:
    return named_key(text, "no-encryption", KEYS["no-encryption"])


def key_key(text: str) -> str:
    return named_key(text, "key", KEYS["key"])


def kms_key_key(text: str) -> str:
    return named_key(text, "kms-key", KEYS["kms-key"])
