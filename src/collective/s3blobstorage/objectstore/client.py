"""The boto3 clients: one for writing, one with short time-outs for reading."""

from __future__ import annotations

import base64
import copy
import hashlib
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.hooks
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.utils import determine_content_length

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.objectstore import pages, redaction, signed
from collective.s3blobstorage.settings import StoreSettings

# Bytes from which a store is asked before the body is sent: a refusal then saves more than the round trip costs.
EXPECT_FROM = 1024 * 1024


# Once per process and not once per storage, since both take most of a session's time: botocore's JSON of S3 and of all
# endpoints, and the registering of its own event handlers, which are functions that know no session.


@cache
def _data() -> Any:
    return botocore.session.Session().get_component("data_loader")


@cache
def _events() -> Any:
    events = botocore.hooks.HierarchicalEmitter()
    botocore.session.Session(event_hooks=events)
    return events


def session(settings: StoreSettings) -> boto3.session.Session:
    """Credentials and region: from the settings, else by boto3's chain. Makes no request.

    Raises ConfigurationError naming ``s3-profile`` where that profile does not exist.
    """
    redaction.install()
    redaction.remember([settings.secret_key, settings.session_token])
    core = botocore.session.Session(
        profile=settings.profile, event_hooks=copy.copy(_events()), include_builtin_handlers=False
    )
    try:
        core.get_scoped_config()  # a profile that does not exist is found out here
        core.register_component("data_loader", _data())
        return boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.session_token,
            region_name=settings.region,
        )
    except boto.ProfileNotFound as error:
        raise ConfigurationError(
            f"s3-profile: there is no profile {error.kwargs['profile']!r} in boto3's configuration files"
            " (~/.aws/config, ~/.aws/credentials, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE)"
        ) from None
    except boto.BotoCoreError as error:
        raise ConfigurationError(f"s3-access-key, s3-profile: boto3 cannot use them ({type(error).__name__})") from None


def authorities(settings: StoreSettings) -> str | bool:
    """What certificates are verified with: ``s3-ca-bundle``, else boto3's (``AWS_CA_BUNDLE``), else True: its own."""
    if settings.ca_bundle is not None:
        return str(settings.ca_bundle)
    return botocore.session.Session(profile=settings.profile).get_config_variable("ca_bundle") or True


def client(session: boto3.session.Session, settings: StoreSettings, *, reading: bool) -> Any:
    """An S3 client (about 50 ms and 13 MB: one per process and purpose). Makes no request.

    ``reading`` takes the ``s3-download-*`` time-outs. Raises ConfigurationError.
    """
    config = Config(
        # The default for presigned URLs in us-east-1 is still the older signature, which other stores refuse.
        signature_version="s3v4",
        connect_timeout=settings.download_connect_timeout if reading else settings.connect_timeout,
        read_timeout=settings.download_read_timeout if reading else settings.read_timeout,
        max_pool_connections=settings.max_pool_connections,
        # One attempt: patience.py repeats.
        retries={"mode": "standard", "total_max_attempts": 1},
        # Uploads carry Content-MD5, which every store checks; the newer checksum trailers are a 411 on Ceph over
        # https and a 400 or 501 on others. Downloads are compared with their SHA-256.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        s3={"addressing_style": settings.addressing_style},
        user_agent_extra="collective.s3blobstorage",
    )
    try:
        made = session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            use_ssl=settings.use_ssl,
            verify=str(settings.ca_bundle) if settings.ca_bundle is not None else None,
            config=config,
        )
    except boto.InvalidRegionError:
        raise ConfigurationError(f"s3-region: {settings.region!r} is no region; example: eu-central-1") from None
    except (boto.BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"s3-endpoint-url: boto3 cannot use {settings.endpoint_url!r} ({type(error).__name__});"
            " example: https://s3.example.org"
        ) from None
    made.meta.events.register("before-call.s3.DeleteObjects", _content_md5)
    made.meta.events.register("before-sign.s3", _no_expectation)
    made.meta.events.register("before-send.s3", _body_is_sent)
    pages.install(made)
    signed.install(made)
    redaction.install()  # again: the client's creation imported modules with loggers
    return made


def _content_md5(params: dict[str, Any], **_: Any) -> None:
    """DeleteObjects with ``Content-MD5`` alone instead of a CRC32 header, which older stores do not know."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
    params["context"].pop("checksum", None)
    params["headers"].pop("x-amz-sdk-checksum-algorithm", None)


def _no_expectation(request: Any, **_: Any) -> None:
    """Drop ``Expect: 100-continue`` from a small request: it costs a round trip, and the body is sent in one write.

    And from one whose bytes are to be sent in any case (``FileWindow.asks_first``). botocore adds it to every PUT,
    since it wraps bytes in a file.
    """
    small = determine_content_length(request.data) <= EXPECT_FROM
    if "Expect" in request.headers and (small or not getattr(request.data, "asks_first", True)):
        del request.headers["Expect"]


def _body_is_sent(request: Any, **_: Any) -> None:
    """Tell a ``FileWindow`` that signing is over and what is read now goes out."""
    sending = getattr(request.body, "sending", None)
    if sending is not None:
        sending()


def bucket_url(client: Any, bucket: str) -> str:
    """Where the client's requests for that bucket go, as its addressing style makes it. Makes no request."""
    return client.generate_presigned_url("head_bucket", Params={"Bucket": bucket}).partition("?")[0]


def identity(endpoint_url: str, bucket: str, prefix: str) -> str:
    """Stable text of endpoint, bucket and prefix: no default port, no user information, host in lower case."""
    parts = urlsplit(endpoint_url)
    scheme = parts.scheme.lower()
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(scheme)) else f":{parts.port}"
    return f"{scheme}://{(parts.hostname or '').lower()}{port}{parts.path.rstrip('/')} {bucket} {prefix}"
