"""From an answer that is no success to one sentence that says what to change: tables, pure."""

from __future__ import annotations

from dataclasses import dataclass

from collective.s3blobstorage.errors import ConfigurationError, S3BlobStorageError, Unavailable
from collective.s3blobstorage.objectstore.probe import Answer
from collective.s3blobstorage.settings import StoreSettings

# A store refuses requests signed more than 15 minutes off (Amazon S3 API reference, "Error responses",
# RequestTimeTooSkewed); signed URLs end too early or live too long long before that.
CLOCK_REFUSED = 15 * 60.0
CLOCK_DOUBTFUL = 5 * 60.0

NTP = "set this machine's clock by NTP"


@dataclass(frozen=True, slots=True)
class Trouble:
    """``check`` is the finding that it belongs to; ``transient`` that trying again may help."""

    check: str
    detail: str
    mend: str
    transient: bool = False

    def error(self) -> S3BlobStorageError:
        """The one sentence for whoever opens the storage."""
        sentence = f"{self.detail}; {self.mend}"
        return Unavailable(sentence) if self.transient else ConfigurationError(sentence)


def no_object_lock(settings: StoreSettings) -> Trouble:
    """``retention`` is set, and the bucket could not keep anything."""
    named = f"--bucket {settings.bucket}"
    return Trouble(
        "bucket",
        f"retention: the bucket {settings.bucket!r} has no Object Lock, so that it can keep nothing from deletion",
        "switch it on, which takes a bucket that keeps versions and is for good: aws s3api put-bucket-versioning"
        f" {named} --versioning-configuration Status=Enabled, then aws s3api put-object-lock-configuration {named}"
        " --object-lock-configuration ObjectLockEnabled=Enabled. Where the store does that for new buckets only: aws"
        " s3api create-bucket --bucket NAME --object-lock-enabled-for-bucket, and bucket-name NAME (or a new"
        " bucket-name and create-bucket on). Or remove retention",
    )


# By what OpenSSL says (its x509_vfy.c and ssl/record); lower case.
_TLS = (
    (
        ("hostname mismatch", "ip address mismatch", "doesn't match"),
        "the certificate of the object store is for another host",
        "s3-endpoint-url: name the host as the certificate does (s3-addressing-style path, where the bucket's name is"
        " what does not fit)",
    ),
    (
        ("has expired", "not yet valid"),
        "the certificate of the object store is not valid at this time",
        "renew it, or correct this machine's clock; s3-endpoint-url is where it was met",
    ),
    (
        ("wrong_version_number", "wrong version number", "record layer failure", "unknown protocol", "http_request"),
        "the object store's port does not speak TLS",
        "s3-endpoint-url: write http:// instead of https://, or give the port that speaks TLS",
    ),
    (
        ("certificate",),
        "the certificate of the object store is signed by nobody that this machine trusts",
        "s3-ca-bundle: give the file with the certificate of the authority that signed it (example:"
        " s3-ca-bundle /etc/ssl/private-ca.pem)",
    ),
)

_BY_CODE = {
    "InvalidAccessKeyId": (
        "credentials",
        "the object store does not know this access key",
        "s3-access-key: correct it, or leave both keys out where boto3 is to find them",
    ),
    "SignatureDoesNotMatch": (
        "credentials",
        "the secret key does not belong to the access key",
        "s3-secret-key (or s3-secret-key-file): correct it",
    ),
    "ExpiredToken": ("credentials", "the session token has expired", "s3-session-token: renew it, with both keys"),
    "InvalidToken": (
        "credentials",
        "the object store does not accept the session token",
        "s3-session-token: give the one that was issued with both keys",
    ),
    "RequestTimeTooSkewed": (
        "clock",
        "the clocks of this machine and of the object store differ by over 15 minutes",
        NTP,
    ),
}


def of_first_request(answer: Answer, settings: StoreSettings, endpoint: str) -> Trouble:
    """What is wrong when the bucket could not be asked about. ``answer`` failed, its body (if any) names the code."""
    if answer.kind in ("SSLError",):
        return _tls(answer)
    if answer.status == 0:
        return _without_answer(answer, endpoint)
    if answer.ahead is not None and abs(answer.ahead) >= CLOCK_REFUSED:
        return clock(answer.ahead)
    if answer.code in _BY_CODE:
        check, detail, mend = _BY_CODE[answer.code]
        return Trouble(check, detail, mend)
    if answer.transient:
        return Trouble(
            "endpoint",
            f"the object store cannot serve requests now ({answer.status} {answer.code})".replace(" )", ")"),
            "start it or wait; s3-endpoint-url says which it is",
            transient=True,
        )
    if answer.code == "AuthorizationHeaderMalformed" or 300 <= answer.status < 400:
        return _region(answer, settings)
    if answer.code == "NoSuchBucket":
        return Trouble(
            "bucket",
            f"there is no bucket {settings.bucket!r}",
            "bucket-name: correct it or make the bucket, or set create-bucket on",
        )
    if answer.status == 404:
        return Trouble(
            "endpoint",
            "what answers there is not an object store",
            "s3-endpoint-url: give the address of the S3 service",
        )
    if answer.denied:
        owner = " (s3-expected-bucket-owner names whom it must belong to)" if settings.expected_bucket_owner else ""
        return Trouble(
            "bucket",
            f"access to the bucket {settings.bucket!r} is denied: it belongs to somebody else, or a policy forbids it"
            + owner,
            "bucket-name: correct it, or let the policy of s3-access-key allow s3:ListBucket, s3:GetObject and"
            " s3:PutObject",
        )
    return Trouble(
        "bucket",
        f"the object store does not accept requests for the bucket {settings.bucket!r} ({answer.status} {answer.code})",
        "bucket-name, s3-region, s3-addressing-style: one of them is not what the store expects",
    )


def clock(ahead: float) -> Trouble:
    """``ahead``: seconds by which the store's clock is ahead."""
    minutes = abs(ahead) / 60
    side = "behind" if ahead > 0 else "ahead of"
    return Trouble(
        "clock",
        f"the clock of this machine is {minutes:.0f} minutes {side} the object store's",
        NTP,
    )


def _tls(answer: Answer) -> Trouble:
    text = answer.trouble.lower()
    for signs, detail, mend in _TLS:
        if any(sign in text for sign in signs):
            return Trouble("tls", detail, mend)
    return Trouble(
        "tls",
        "no TLS connection to the object store came about",
        "s3-endpoint-url, s3-ca-bundle: one of them does not fit, or the store is starting",
        transient=True,
    )


def _without_answer(answer: Answer, endpoint: str) -> Trouble:
    if answer.kind in ("ReadTimeoutError", "ConnectTimeoutError"):
        return Trouble(
            "endpoint",
            f"nothing answers in time at {endpoint}",
            "s3-endpoint-url: is it right, is the store running, does a firewall drop the packets"
            " (s3-download-connect-timeout, s3-download-read-timeout are how long was waited)",
            transient=True,
        )
    if answer.transient:
        return Trouble(
            "endpoint",
            f"the object store cannot be reached at {endpoint}",
            "s3-endpoint-url: correct host, port or scheme, or start the store",
            transient=True,
        )
    if answer.kind in ("InvalidRegionError", "UnknownRegionError"):
        return Trouble("region", "the region is none", "s3-region: correct it (example: s3-region eu-central-1)")
    return Trouble(
        "credentials",
        "there are no usable credentials for the object store",
        "s3-access-key and s3-secret-key: set both, or s3-profile, or give the process a role",
    )


def _region(answer: Answer, settings: StoreSettings) -> Trouble:
    return Trouble(
        "region",
        f"the bucket is in another region than {settings.region or 'the one that boto3 chose'}",
        "s3-region: give the bucket's own (example: s3-region eu-central-1)",
    )
