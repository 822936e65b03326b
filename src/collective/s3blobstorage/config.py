"""``<s3blobstorage>`` of zope.conf, zeo.conf, zodbconvert's or zodbpack's configuration to ``StorageSettings``.

A single value is checked by its key (``config_keys``) while ZConfig reads the line; what several keys must agree on is
checked here when the section is complete, and reported by ZConfig with the line at which the enclosing section ends.
Everything runs in the thread that parses or opens, before there is a storage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ZConfig
import ZODB.config
from ZODB.config import BaseConfig

from . import config_keys as keys
from .config_sources import source_settings
from .config_store import store_values
from .config_values import required
from .encryption.interfaces import IEncryption
from .errors import ConfigurationError
from .settings import DeliverySettings, StorageSettings, StoreSettings, UploadSettings


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
    uses_base = any(source.uses_base for source in section.sources)
    _check_base(section.base, uses_base=uses_base, keeps=section.keep_in_base)
    store = store_values(section, environ)
    cache_dir = required(section.cache_dir, keys.cache_dir)
    if section.staging_dir == cache_dir:
        raise ConfigurationError(
            f"staging-dir and cache-dir are both {str(cache_dir)!r}; give staging-dir a folder of its own, or leave it "
            "out: then it is a folder inside cache-dir"
        )
    _check_inline(section.inline_size, store["encryption"])
    if section.dedup:
        _check_dedup(store["encryption"], section.retention)
    if section.upload_concurrency > section.s3_max_pool_connections:
        raise ConfigurationError(
            f"upload-concurrency {section.upload_concurrency} is above s3-max-pool-connections "
            f"{section.s3_max_pool_connections}: uploads would wait for a connection. Raise the one or lower the other"
        )
    settings = StorageSettings(
        store=StoreSettings(
            **store,
            public_endpoint_url=section.s3_public_endpoint_url,
            connect_timeout=section.s3_connect_timeout,
            read_timeout=section.s3_read_timeout,
            upload_concurrency=section.upload_concurrency,
            storage_class=section.storage_class,
            create_bucket=section.create_bucket,
            retention=section.retention,
            outage_patience=section.outage_patience,
        ),
        cache_dir=cache_dir,
        cache_size=section.cache_size,
        cache_min_free=section.cache_min_free,
        cache_fill_on_commit=section.cache_fill_on_commit,
        cache_encrypt=section.cache_encrypt,
        part_threshold=section.part_threshold,
        part_size=section.part_size,
        staging_dir=section.staging_dir,
        commit_within_cache_size=section.commit_within_cache_size,
        inline_size=section.inline_size,
        dedup=section.dedup,
        keep_in_base=section.keep_in_base,
        missing_blob=section.missing_blob,
        owner=section.owner,
        gc_grace=section.gc_grace,
        gc_keep=section.gc_keep,
        key_max_age=section.key_max_age,
        gc_on_pack=section.gc_on_pack,
        delivery=_delivery(section),
        uploads=UploadSettings(
            allowed=section.direct_upload,
            most_size=section.direct_upload_max_size,
            expiry=section.upload_expiry,
            origins=section.direct_upload_origins,
            staging=section.direct_upload_staging,
        ),
        read_only=section.read_only,
        preflight=section.preflight,
        preflight_deadline=section.preflight_deadline,
        start_degraded=section.start_degraded,
        note_reads=section.note_reads,
        site_operations=section.site_operations,
        metrics_token_file=section.metrics_token_file,
        sources=source_settings(section.sources, environ),
    )
    settings.cache_ring  # noqa: B018 - raises where there is none
    return settings


def _check_inline(size: int, encryption: IEncryption | None) -> None:
    if size and encryption is not None and (encryption.seals or encryption.server_side.own_key):
        raise ConfigurationError(
            f"inline-size is {size}, so that small blobs would lie in the database in clear, while the others are"
            f" encrypted with keys of your own ({encryption.name}). Example: inline-size 0"
        )


def _check_dedup(encryption: IEncryption | None, retention: object) -> None:
    if encryption is not None and (encryption.seals or encryption.server_side.own_key):
        # A shared object is named after its bytes, and belongs to revisions whose keys change one by one.
        raise ConfigurationError(
            "dedup is on, so the name of an object would tell the store's owner which file it is, while blobs are"
            f" encrypted with keys of your own ({encryption.name}). Example: dedup off"
        )
    if retention:
        raise ConfigurationError(
            "dedup is on, so a new blob could share an object whose retention ends sooner than that blob's would, while"
            " retention is set. Example: dedup off"
        )


def _delivery(section: Any) -> DeliverySettings:
    pair, key = section.cdn_key_pair_id, section.cdn_private_key_file
    # A key pair without the file is no error here: commands read the file's name from an environment that they may not
    # have. Who then signs says what is missing, and the file is proxied.
    if key is not None and pair is None:
        raise ConfigurationError(
            "cdn-private-key-file is set without cdn-key-pair-id, which is CloudFront's name for its public half"
        )
    if pair is not None and section.cdn_url_base is None:
        raise ConfigurationError(
            "cdn-key-pair-id is set without cdn-url-base, the address below which the CDN has the prefix. Example:"
            " cdn-url-base https://d111111abcdef8.cloudfront.net"
        )
    return DeliverySettings(
        modes=section.delivery_modes,
        presign_max_expiry=section.presign_max_expiry,
        public_url_base=section.public_url_base,
        cdn_url_base=section.cdn_url_base,
        cdn_key_pair_id=pair,
        cdn_private_key=None if key is None else key.reveal(),
        x_accel_location=section.x_accel_location,
    )


def _check_base(base: Any, *, uses_base: bool, keeps: bool) -> None:
    """Refuse what cannot be a base before it is opened: opening makes files and folders.

    ``uses_base``: whether a ``<basesource>`` reads what it keeps. ``keeps``: whether ``keep-in-base`` is on.
    """
    if base is None:
        raise ConfigurationError(
            "the storage inside is missing: put the storage that keeps the objects, such as <filestorage>, "
            "<relstorage> or <zeoclient>, between <s3blobstorage> and </s3blobstorage>"
        )
    if isinstance(base, ZODB.config.FileStorage):
        blob_dir = getattr(base.config, "blob_dir", None)
        if blob_dir is not None and not keeps:
            raise ConfigurationError(
                f"blob-dir {blob_dir!r} of the <filestorage> inside would keep blobs beside the bucket: remove that "
                "line. Where blobs are in it that the bucket does not have, add a <blobdirsource> with path "
                f"{blob_dir} to <s3blobstorage>. To have what is committed in both, set keep-in-base on"
            )
        if blob_dir is None and keeps:
            raise ConfigurationError(
                "keep-in-base is on, and the <filestorage> inside has no blob-dir: give it the one that it had, or set "
                "keep-in-base off"
            )
    if isinstance(base, ZODB.config.FileStorage | ZODB.config.BlobStorage) and uses_base:
        raise ConfigurationError(
            "<basesource> cannot be used around a <filestorage>: add a <blobdirsource> with the path of its blob "
            "directory in its place"
        )
    if isinstance(base, ZODB.config.BlobStorage) and not keeps:
        raise ConfigurationError(
            "the <blobstorage> inside would keep the blobs itself: leave it out and keep the storage that it holds. "
            "Where blobs are in it that the bucket does not have, add a <blobdirsource> with path "
            f"{base.config.blob_dir} to <s3blobstorage>. To have what is committed in both, set keep-in-base on"
        )
