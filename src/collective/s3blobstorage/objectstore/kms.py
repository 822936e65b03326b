"""Keys of the ring that AWS KMS wraps.

KMS makes a key, the bucket keeps it in the form that only KMS can open, and each process asks KMS for it once, when it
opens. Who has a copy of the bucket has nothing; who may no longer use the key in KMS gets nothing after a restart.
Protocol: AWS KMS API reference, "GenerateDataKey" and "Decrypt".
"""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from zope.interface import implementer

from ..encryption.interfaces import IKeyProvider
from ..encryption.secret import SecretBytes
from ..errors import ConfigurationError, S3BlobStorageError, Unavailable
from . import redaction

# One small request while a storage opens, and preflight-deadline repeats it: a KMS that does not answer must not hold
# the start for longer than a store that does not (s3-download-connect-timeout, s3-download-read-timeout).
_CONFIG = Config(
    connect_timeout=5.0,
    read_timeout=10.0,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="collective.s3blobstorage",
)

_CREDENTIALS = (
    "the credentials are not accepted",
    "profile: correct it, or what boto3 finds (AWS_ACCESS_KEY_ID, a role, ~/.aws)",
)
_UNUSABLE = ("the key cannot be used at present", "enable it in AWS KMS, or name another one for a new key of the ring")
_OTHER = (
    "what the bucket keeps of this key was wrapped by another KMS key, or for a key of another id",
    "name the KMS key with which it was added; by its ARN where the alias was given to another one since",
)
_NO_SUCH_KEY = (
    "there is no such key in that region and account",
    "correct it, or region (example: kms-key-id alias/plone-blobs)",
)
_OF_ANOTHER_KIND = ("it cannot wrap keys", "take a symmetric one for encryption (SYMMETRIC_DEFAULT)")

# Source: AWS KMS API reference, errors of both requests and "Common errors".
_MEANING = {
    "AccessDeniedException": (
        "these credentials may not use it",
        "let their policy, or the key's, allow kms:GenerateDataKey and kms:Decrypt (profile says whose they are)",
    ),
    "NotFoundException": _NO_SUCH_KEY,
    "InvalidArnException": _NO_SUCH_KEY,
    "ValidationException": _NO_SUCH_KEY,
    "DisabledException": _UNUSABLE,
    "KMSInvalidStateException": _UNUSABLE,
    "InvalidKeyUsageException": _OF_ANOTHER_KIND,
    "UnsupportedOperationException": _OF_ANOTHER_KIND,
    "InvalidCiphertextException": _OTHER,
    "IncorrectKeyException": _OTHER,
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "IncompleteSignature": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
}
_PASSES = frozenset(
    "DependencyTimeoutException KeyUnavailableException KMSInternalException LimitExceededException"
    " RequestLimitExceeded ServiceUnavailable ThrottlingException".split()
)


@implementer(IKeyProvider)
class KMSProvider:
    """One key of the ring, wrapped by ``kms_key_id``: an ARN, a key's id, or ``alias/…``.

    ``region`` None: that of the ARN, else boto3's. ``endpoint_url`` None: AWS, or what boto3's configuration names;
    only https, since the key comes in the answer, but for this machine's own. ``profile`` None, and all other
    credentials: as boto3 finds them. An instance makes no request and no client; each call has a client of its own,
    since a process asks once for each key. Importing this module imports boto3. Any thread.
    """

    keeps = True

    def __init__(
        self,
        id: str,
        kms_key_id: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        self.id = id
        self.kms_key_id = kms_key_id
        self.region = region or _region_of(kms_key_id)
        self.endpoint_url = endpoint_url
        self.profile = profile

    def __repr__(self) -> str:
        return f"<KMSProvider {self.id} {self.kms_key_id}>"

    @property
    def source(self) -> str:
        return f"AWS KMS {self.kms_key_id}"

    def material(self, kept: bytes | None) -> bytes:
        if kept is None:
            raise ConfigurationError(
                f"the key {self.id} ({self.source}) was never made: run `s3blobs keys add {self.id}` once, with the"
                " same zope.conf"
            )
        return _plain(self._asked("decrypt", CiphertextBlob=kept))

    def make(self) -> bytes:
        answer = self._asked("generate_data_key", KeySpec="AES_256")
        _plain(answer)  # only so that no log has it: each process asks for it
        return answer["CiphertextBlob"]

    def _asked(self, request: str, **parameters: Any) -> dict[str, Any]:
        redaction.install()
        try:
            with closing(self._client()) as client:
                redaction.install()  # again: making the client imported modules with loggers
                # The context is what KMS binds the wrapped key to, and its log shows which key of ours was asked for.
                context = {"s3blobs-key": self.id}
                answer = getattr(client, request)(KeyId=self.kms_key_id, EncryptionContext=context, **parameters)
        except (BotoCoreError, ClientError, ResponseParserError, ValueError) as error:
            # ``from None``: what botocore says of a parameter prints it.
            raise self._translated(error) from None
        if "Plaintext" not in answer:
            raise self._wrong("what answers there is not KMS", "endpoint-url: correct it")
        return answer

    def _client(self) -> Any:
        made = boto3.session.Session(profile_name=self.profile, region_name=self.region).client(
            "kms", endpoint_url=self.endpoint_url, config=_CONFIG
        )
        if not _is_private(made.meta.endpoint_url):
            made.close()
            raise self._wrong(
                "the key would travel in clear text, since KMS is reached over http",
                "endpoint-url (or AWS_ENDPOINT_URL_KMS): set one with https (example:"
                " https://kms.eu-central-1.amazonaws.com)",
            )
        return made

    def _translated(self, error: Exception) -> S3BlobStorageError:
        if isinstance(error, S3BlobStorageError):  # ConfigurationError is a ValueError
            return error
        if isinstance(error, ClientError):
            return self._answered(error)
        if isinstance(error, boto.ProfileNotFound):
            return self._wrong(f"there is no profile {self.profile!r} in boto3's configuration", "profile: correct it")
        if isinstance(error, (boto.NoRegionError, boto.InvalidRegionError)):
            return self._wrong("its region is not known", "region: set it (example: region eu-central-1)")
        if isinstance(error, boto.SSLError) and "CERTIFICATE" in str(error).upper():
            return self._wrong(
                "this machine does not trust the certificate of KMS", "endpoint-url, or AWS_CA_BUNDLE: correct it"
            )
        if isinstance(error, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)):
            return self._out()
        if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
            return self._wrong(*_CREDENTIALS)
        if isinstance(error, ResponseParserError):
            return self._wrong("what answers there is not KMS", "endpoint-url: correct it")
        return self._wrong(f"boto3 cannot ask KMS ({type(error).__name__})", "correct profile, region or endpoint-url")

    def _answered(self, error: ClientError) -> S3BlobStorageError:
        code = str(error.response.get("Error", {}).get("Code") or "")
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        if code in _MEANING:
            return self._wrong(*_MEANING[code])
        if code in _PASSES or status >= 500 or status == 429:
            return self._out()
        return self._wrong(f"KMS does not accept the request ({status} {code})", "correct it, region or endpoint-url")

    def _wrong(self, what: str, mend: str) -> ConfigurationError:
        return ConfigurationError(f"kms-key-id {self.kms_key_id} (key {self.id}): {what}; {mend}")

    def _out(self) -> Unavailable:
        return Unavailable(f"AWS KMS, which wraps the key {self.id} (kms-key-id), does not answer now.")


def _plain(answer: dict[str, Any]) -> SecretBytes:
    """The key, taken out of the answer."""
    plain = SecretBytes(answer.pop("Plaintext"))
    redaction.remember([bytes(plain)])  # bytes: how those show themselves is a form to look for
    return plain


def _region_of(kms_key_id: str) -> str | None:
    parts = kms_key_id.split(":")  # arn:aws:kms:REGION:ACCOUNT:key/…
    return parts[3] or None if len(parts) == 6 and parts[0] == "arn" else None


def _is_private(endpoint_url: str) -> bool:
    """Whether nobody between us and the endpoint sees what is said."""
    parts = urlsplit(endpoint_url)
    if parts.scheme == "https":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
