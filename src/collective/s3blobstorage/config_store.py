"""What the keys of a bucket say together: endpoint, credentials, encryption. For a storage's section and a source's.

Runs in the thread that parses or opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import config_keys as keys
from . import datatypes
from .config_encryption import encryption_settings
from .config_keys import Key
from .config_values import checked, required
from .errors import ConfigurationError
from .providers import BY_NAME

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


def store_values(section: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """Values of ``StoreSettings`` that every section about a bucket has.

    ``environ`` is asked for the endpoint and for the usual variables of a named provider. Raises ConfigurationError
    where keys are missing or contradict each other.
    """
    bucket = required(section.bucket_name, keys.bucket_name)
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
    access_key, secret_key, session_token = _credentials(section)
    if access_key is None:
        access_key, secret_key = _provider_credentials(section.s3_provider, environ)
    # boto3 takes the scheme of an endpoint's URL and then ignores use_ssl; said here once, so that nobody below asks.
    use_ssl = known_endpoint.lower().startswith("https://") if known_endpoint else section.s3_use_ssl
    return {
        "bucket": bucket,
        "prefix": section.s3_prefix,
        "endpoint_url": endpoint,
        "region": section.s3_region,
        "access_key": access_key,
        "secret_key": secret_key,
        "session_token": session_token,
        "profile": section.s3_profile,
        "ca_bundle": section.s3_ca_bundle,
        "use_ssl": use_ssl,
        "addressing_style": section.s3_addressing_style,
        "encryption": encryption_settings(section, environ, known_endpoint),
        "download_connect_timeout": section.s3_download_connect_timeout,
        "download_read_timeout": section.s3_download_read_timeout,
        "download_max_attempts": section.s3_download_max_attempts,
        "download_deadline": section.download_deadline,
        "max_pool_connections": section.s3_max_pool_connections,
        "expected_bucket_owner": bucket_owner,
        "provider": section.s3_provider,
    }


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
                checked(datatypes.Secret(access), replace(keys.s3_access_key, name=access_name), _credential_text),
                checked(datatypes.Secret(secret), replace(keys.s3_secret_key, name=secret_name), _credential_text),
            )
    return None, None


def _credential(value: datatypes.Secret | None, key: Key) -> str | None:
    return None if value is None else checked(value, key, _credential_text)


def _credential_text(text: str) -> str:
    datatypes.check_credential(text)
    return text
