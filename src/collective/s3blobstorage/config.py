"""``<s3blobstorage>`` of zope.conf, zeo.conf, zodbconvert's or zodbpack's configuration to ``StorageSettings``.

A single value is checked by its key (``config_keys``) while ZConfig reads the line; what several keys must agree on is
checked here when the section is complete, and reported by ZConfig with the line at which the enclosing section ends.
Everything runs in the thread that parses or opens, before there is a storage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import ZConfig
import ZODB.config
from ZODB.config import BaseConfig

from . import config_keys as keys
from . import datatypes
from .config_keys import NOT_SHOWN, Key
from .errors import ConfigurationError
from .providers import BY_NAME
from .settings import StorageSettings, StoreSettings

T = TypeVar("T")

# Which boto3 reads itself, in this order (AWS SDKs and Tools Reference Guide, "Service-specific endpoints").
_BOTO3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_IGNORE_ENDPOINTS = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
# An older name that other tools and charts set and boto3 does not know.
_ENDPOINT_ALIAS = Key(
    "AWS_S3_ENDPOINT_URL",
    datatypes.endpoint_url,
    keys.s3_endpoint_url.allowed,
    keys.s3_endpoint_url.example,
    keys.s3_endpoint_url.show,
)


class S3BlobStorageFactory(BaseConfig):
    """What ZConfig makes of the section.

    ``settings`` are what the section said when it was parsed; ``open()`` returns the storage around the base.
    """

    settings: StorageSettings

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        # ZConfig.ConfigurationError: of a ValueError that a section's datatype raises, ZConfig would keep the whole
        # section on its own exception, and print "line -1" where the section is not nested in another one.
        try:
            self.settings = storage_settings(config, os.environ)
        except ConfigurationError as error:
            where = f"<s3blobstorage {self.name}>" if self.name else "<s3blobstorage>"
            raise ZConfig.ConfigurationError(f"{where}: {error}") from None

    def open(self, database_name: str = "unnamed", databases: Any = None) -> Any:
        """Open the base, then the storage around it. Where that fails the base is closed again."""
        # Again, since zope.conf's <environment> is set between parsing and opening.
        self.settings = storage_settings(self.config, os.environ)
        from .storage import open_storage  # here, so that parsing a configuration does not import boto3

        return open_storage(self.config.base.open(), self.settings)


def storage_settings(section: Any, environ: Mapping[str, str]) -> StorageSettings:
    """The settings of a parsed section, whose attributes are the values of ``config_keys``.

    ``environ`` is asked for the endpoint and for the usual variables of a named provider. Raises ConfigurationError
    where keys are missing or contradict each other.
    """
    _check_base(section.base)
    bucket = _required(section.bucket_name, keys.bucket_name)
    cache_dir = _required(section.cache_dir, keys.cache_dir)
    if section.staging_dir == cache_dir:
        raise ConfigurationError(
            f"staging-dir and cache-dir are both {str(cache_dir)!r}; give staging-dir a folder of its own, or leave it "
            "out: then it is a folder inside cache-dir"
        )
    endpoint = section.s3_endpoint_url or _endpoint_alias(environ)
    known_endpoint = endpoint or _boto3_endpoint(environ)
    if section.s3_addressing_style == "virtual" and not datatypes.is_dns_bucket(bucket):
        raise ConfigurationError(
            f"bucket-name {bucket!r} cannot be part of a host name, as s3-addressing-style virtual needs it. "
            "Example: s3-addressing-style path"
        )
    bucket_owner = section.s3_expected_bucket_owner
    if bucket_owner is not None and not known_endpoint and not datatypes.is_aws_account(bucket_owner):
        raise keys.s3_expected_bucket_owner.error("is not an AWS account, and no s3-endpoint-url is set", bucket_owner)
    if section.upload_concurrency > section.s3_max_pool_connections:
        raise ConfigurationError(
            f"upload-concurrency {section.upload_concurrency} is above s3-max-pool-connections "
            f"{section.s3_max_pool_connections}: uploads would wait for a connection. Raise the one or lower the other"
        )
    access_key, secret_key, session_token = _credentials(section)
    if access_key is None:
        access_key, secret_key = _provider_credentials(section.s3_provider, environ)
    # boto3 takes the scheme of an endpoint's URL and then ignores use_ssl; said here once, so that nobody below asks.
    use_ssl = known_endpoint.lower().startswith("https://") if known_endpoint else section.s3_use_ssl
    return StorageSettings(
        store=StoreSettings(
            bucket=bucket,
            prefix=section.s3_prefix,
            endpoint_url=endpoint,
            public_endpoint_url=section.s3_public_endpoint_url,
            region=section.s3_region,
            access_key=access_key,
            secret_key=secret_key,
            session_token=session_token,
            profile=section.s3_profile,
            ca_bundle=section.s3_ca_bundle,
            use_ssl=use_ssl,
            addressing_style=section.s3_addressing_style,
            sse_customer_key=_sse_customer_key(section, known_endpoint),
            connect_timeout=section.s3_connect_timeout,
            read_timeout=section.s3_read_timeout,
            download_connect_timeout=section.s3_download_connect_timeout,
            download_read_timeout=section.s3_download_read_timeout,
            download_max_attempts=section.s3_download_max_attempts,
            download_deadline=section.download_deadline,
            max_pool_connections=section.s3_max_pool_connections,
            upload_concurrency=section.upload_concurrency,
            storage_class=section.storage_class,
            expected_bucket_owner=bucket_owner,
            create_bucket=section.create_bucket,
            provider=section.s3_provider,
            outage_patience=section.outage_patience,
        ),
        cache_dir=cache_dir,
        cache_size=section.cache_size,
        cache_min_free=section.cache_min_free,
        cache_fill_on_commit=section.cache_fill_on_commit,
        part_threshold=section.part_threshold,
        part_size=section.part_size,
        staging_dir=section.staging_dir,
        commit_within_cache_size=section.commit_within_cache_size,
        inline_size=section.inline_size,
        owner=section.owner,
        read_only=section.read_only,
        preflight=section.preflight,
        preflight_deadline=section.preflight_deadline,
        start_degraded=section.start_degraded,
    )


def _required(value: T | None, key: Key) -> T:
    if value is None:
        raise ConfigurationError(f"{key.name} is missing. {key.advice}")
    return value


def _check_base(base: Any) -> None:
    """Refuse what cannot be a base before it is opened: opening makes files and folders."""
    if base is None:
        raise ConfigurationError(
            "the storage inside is missing: put the storage that keeps the objects, such as <filestorage>, "
            "<relstorage> or <zeoclient>, between <s3blobstorage> and </s3blobstorage>"
        )
    if isinstance(base, ZODB.config.FileStorage) and getattr(base.config, "blob_dir", None) is not None:
        raise ConfigurationError(
            f"blob-dir {base.config.blob_dir!r} of the <filestorage> inside would keep blobs beside the bucket: "
            "remove that line"
        )
    if isinstance(base, ZODB.config.BlobStorage):
        raise ConfigurationError(
            "the <blobstorage> inside would keep the blobs itself: leave it out and keep the storage that it holds"
        )


def _endpoint_alias(environ: Mapping[str, str]) -> str | None:
    value = environ.get(_ENDPOINT_ALIAS.name, "").strip()
    if not value or _boto3_endpoint(environ) or _endpoints_ignored(environ):
        return None
    return _ENDPOINT_ALIAS(value)


def _boto3_endpoint(environ: Mapping[str, str]) -> str | None:
    if _endpoints_ignored(environ):
        return None
    return next((environ[name] for name in _BOTO3_ENDPOINTS if environ.get(name)), None)


def _endpoints_ignored(environ: Mapping[str, str]) -> bool:
    return environ.get(_IGNORE_ENDPOINTS, "").lower() == "true"


def _credentials(section: Any) -> tuple[str | None, str | None, str | None]:
    """Access key, secret key, session token: all from the section, or all None for boto3's own chain."""
    access = _credential(section.s3_access_key, keys.s3_access_key)
    secret = _credential(section.s3_secret_key, keys.s3_secret_key)
    token = _credential(section.s3_session_token, keys.s3_session_token)
    secret_name = keys.s3_secret_key.name
    if section.s3_secret_key_file is not None:
        if secret is not None:
            raise ConfigurationError("s3-secret-key and s3-secret-key-file are both given; keep one of them")
        secret = section.s3_secret_key_file.reveal()
        secret_name = keys.s3_secret_key_file.name
    elsewhere = "or leave both out: then boto3 finds credentials in the environment, a profile or the machine's role"
    if access is not None and secret is None:
        raise ConfigurationError(
            f"s3-access-key is given without a secret key; add s3-secret-key or s3-secret-key-file, {elsewhere}"
        )
    if secret is not None and access is None:
        raise ConfigurationError(f"{secret_name} is given without s3-access-key; add it, {elsewhere}")
    if token is not None and access is None:
        raise ConfigurationError(
            "s3-session-token is given without s3-access-key and s3-secret-key; it is valid only with the two that "
            "were issued with it"
        )
    return access, secret, token


def _provider_credentials(provider: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Of the first pair of the provider's own variables that is set; (None, None) for boto3's own chain."""
    row = BY_NAME.get(provider)
    for access_name, secret_name in (row.value("key_variables") or ()) if row is not None else ():
        access, secret = environ.get(access_name, "").strip(), environ.get(secret_name, "").strip()
        if access and secret:
            return (
                _checked(datatypes.Secret(access), replace(keys.s3_access_key, name=access_name), _credential_text),
                _checked(datatypes.Secret(secret), replace(keys.s3_secret_key, name=secret_name), _credential_text),
            )
    return None, None


def _credential(value: datatypes.Secret | None, key: Key) -> str | None:
    return None if value is None else _checked(value, key, _credential_text)


def _credential_text(text: str) -> str:
    datatypes.check_credential(text)
    return text


def _checked(value: datatypes.Secret, key: Key, convert: Callable[[str], T]) -> T:
    try:
        return convert(value.reveal())
    except ConfigurationError as reason:
        raise ConfigurationError(f"{key.name} {NOT_SHOWN} {reason}. {key.advice}") from None


def _sse_customer_key(section: Any, endpoint: str | None) -> bytes | None:
    if section.s3_sse_customer_key is None:
        return None
    key = _checked(section.s3_sse_customer_key, keys.s3_sse_customer_key, datatypes.sse_customer_key)
    without_tls = "s3-sse-customer-key sends the key with each request and so needs TLS, but"
    if not section.s3_use_ssl:
        raise ConfigurationError(f"{without_tls} s3-use-ssl is off. Example: s3-use-ssl on")
    if endpoint is not None and not endpoint.lower().startswith("https://"):
        raise ConfigurationError(
            f"{without_tls} the endpoint is {keys.s3_endpoint_url.show(endpoint)}. "
            f"Example: s3-endpoint-url {keys.s3_endpoint_url.example}"
        )
    return key
