"""Keeps secrets out of the log of botocore and urllib3.

botocore's DEBUG log prints request headers whole: SSE-C keys, session tokens, signatures; and bodies of answers, among
them the keys that KMS gives out, before anybody can know their value. A filter of a logger does not
apply to its children, so it is put on each of their loggers. It changes the record (message, arguments, text of the
traceback), hence every handler sees the clean text.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "[hidden]"
LIBRARIES = ("botocore", "boto3", "urllib3", "s3transfer")

_SECRET_NAMES = (
    r"x-amz-(?:copy-source-)?server-side-encryption-customer-key(?:-md5)?"
    r"|(?:CopySource)?SSECustomerKey(?:MD5)?"
    r"|x-amz-security-token|x-amz-s3session-token|SessionToken|session_token|aws_session_token"
    r"|SecretAccessKey|secret_key|aws_secret_access_key"
    r"|X-Amz-Signature|Signature"
    r"|Plaintext"
)
# name, separator, value; a value is a quoted string (also of bytes, with escapes), or runs to the next separator
_NAMED = re.compile(
    rf"(?i)(?<![\w-])({_SECRET_NAMES})(['\"]?\s*(?:%3D|[:=,])\s*)(b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|[^\s,;&'\"}}\)<>]+)"
)
# the AWS4 signature as botocore.auth prints it alone on a line
_CALCULATED = re.compile(r"(?i)(calculated signature:\s*)\S+|(?<=Signature:\n)[0-9a-f]{64}")

_known: set[str] = set()


def remember(secrets: Iterable[str | bytes | None]) -> None:
    """Exact values that must never be printed, beside those that are recognised by their name."""
    for secret in secrets:
        if not secret:
            continue
        raw = bytes(secret) if isinstance(secret, bytes) else secret.encode()  # key material hides its repr
        encoded = base64.b64encode(raw).decode()
        forms = {encoded, quote(encoded, safe=""), raw.hex(), repr(raw)[2:-1]}
        if isinstance(secret, str):
            forms |= {secret, quote(secret, safe=""), repr(secret)[1:-1]}
        # Of fewer than eight characters a "secret" is a test's or a mistake; hiding it would garble every line.
        _known.update(form for form in forms if len(form) >= 8)


def redact(text: str) -> str:
    """``text`` without any secret that is known by value or by name."""
    for secret in tuple(_known):  # another thread may add one
        if secret in text:
            text = text.replace(secret, HIDDEN)
    text = _NAMED.sub(rf"\1\2{HIDDEN}", text)
    return _CALCULATED.sub(lambda found: f"{found.group(1) or ''}{HIDDEN}", text)


class SecretsFilter(logging.Filter):
    """Rewrites each record; lets every record through."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            message = HIDDEN  # a record that cannot be formatted is not worth the risk
        record.msg, record.args = redact(message), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(record.exc_text or self._formatter.formatException(record.exc_info))
            # Handlers that format exc_info on their own would print the text that was just cleaned.
            record.exc_info = None
        return True


_filter = SecretsFilter()


def install() -> None:
    """Put the filter on every logger of the libraries that exists now. Repeating it costs microseconds."""
    # list(): another thread may create a logger meanwhile.
    names = [name for name in list(logging.Logger.manager.loggerDict) if name.partition(".")[0] in LIBRARIES]
    for name in {*names, *LIBRARIES}:
        logging.getLogger(name).addFilter(_filter)  # adding it twice has no effect
