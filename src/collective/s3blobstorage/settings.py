"""What zope.conf says, as plain frozen values.

``config.py`` turns a ZConfig section into these once, at the edge; tests and tools make them directly. Nothing below
reads the environment or a file of configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .encryption.interfaces import IEncryption
    from .encryption.ring import KeyRing
    from .overlay.interfaces import ISourceSettings

MB = 1024 * 1024
GB = 1024 * MB


RETENTIONS = ("governance", "compliance")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long nobody may delete an object (Object Lock). ``mode``: one of ``RETENTIONS``; ``seconds`` from now on."""

    mode: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How to reach one bucket.

    Every secret has ``repr=False``: a settings object may be logged.

    Times are in seconds, sizes in bytes. ``None`` for a credential, the region, the endpoint or the profile means
    that boto3's own chain decides (environment, profile, container, instance).
    """

    bucket: str
    prefix: str = ""  # without a slash at either end; "" is the bucket's root
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    ca_bundle: Path | None = None
    use_ssl: bool = True
    addressing_style: str = "auto"  # auto, path or virtual
    encryption: IEncryption | None = None  # None: what the bucket does by default
    connect_timeout: float = 60.0
    read_timeout: float = 300.0
    download_connect_timeout: float = 5.0
    download_read_timeout: float = 10.0
    download_max_attempts: int = 2
    download_deadline: float = 3600.0  # wall clock for one blob, all attempts together
    provider: str = "auto"  # auto, or a name of objectstore/providers.py
    outage_patience: float = 35.0  # how long reads ride out an outage; 0: not at all, and no circuit
    max_pool_connections: int = 50
    upload_concurrency: int = 24  # requests that send bytes at the same time, per process
    storage_class: str | None = None
    expected_bucket_owner: str | None = None
    create_bucket: bool = False
    retention: Retention | None = None  # of new objects below blobs/


@dataclass(frozen=True, slots=True)
class MinFree:
    """``cache-min-free``: how much of a disk stays free, in bytes or as a share of the whole."""

    size: int = 0
    share: float = 0.0  # 0.05: 5%

    def of(self, total: int) -> int:
        """The bytes that stay free on a disk of ``total`` bytes."""
        return max(self.size, int(total * self.share))


MODES = ("stream", "proxy", "redirect", "x-accel")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How the blobs of a section may reach browsers: bounds for what each site chooses.

    URLs are without a slash at the end.
    """

    modes: frozenset[str] = frozenset(MODES)
    presign_max_expiry: float = 3600.0  # seconds
    public_url_base: str | None = None  # where everybody may read the prefix
    cdn_url_base: str | None = None  # of a CDN in front of the prefix, that checks signatures
    cdn_key_pair_id: str | None = None
    cdn_private_key: str | None = field(default=None, repr=False)  # PEM
    x_accel_location: str | None = None  # a path of nginx; None: there is no such nginx


MOST_UPLOADED = 5 * 1024 * GB  # bytes: the largest object that S3 takes


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """Whether browsers may send files to the bucket themselves: bounds for what each site chooses."""

    allowed: bool = True
    most_size: int = MOST_UPLOADED  # bytes of one file
    expiry: float = 86400.0  # seconds after which what was not completed is deleted
    origins: tuple[str, ...] = ()  # scheme://host[:port] of the sites, for the bucket's CORS rules
    staging: str = "sse-s3"  # or none: how the area is encrypted where blobs are with keys of ours


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Everything of one ``<s3blobstorage>`` section but the base storage."""

    store: StoreSettings
    cache_dir: Path
    cache_size: int = 1 * GB
    cache_min_free: MinFree = MinFree(share=0.05)
    cache_fill_on_commit: str = "small"  # on, off or small
    cache_encrypt: bool = False
    part_threshold: int = 8 * MB  # a larger blob is read by parts
    part_size: int = 4 * MB
    staging_dir: Path | None = None  # None: a folder inside cache_dir
    commit_within_cache_size: bool = False  # whether commits under way may not take more than cache_size
    keep_in_base: bool = False  # whether a commit stores the blob in the base too
    missing_blob: str = "raise"  # or placeholder: what a connection gets of a blob that is nowhere
    inline_size: int = 0  # blobs of at most so many bytes go into their records; 0: none
    dedup: bool = False  # whether new blobs of equal bytes share one object
    owner: str | None = None
    gc_grace: float = 86400.0  # seconds; younger objects are never judged
    gc_keep: float = 7 * 86400.0  # seconds for which nothing must have referred to an object
    gc_on_pack: str = "execute"  # off, plan or execute
    key_max_age: float = 365 * 86400.0  # seconds after which `s3blobs check` wants another active key; 0: never
    read_only: bool = False
    preflight: bool = True
    preflight_deadline: float = 60.0  # how long a store that is out is waited for at open; 0: one attempt
    start_degraded: bool = False
    note_reads: bool = False  # whether each process writes down which blobs are read
    site_operations: bool = False  # whether managers of a site may operate the whole database
    metrics_token_file: Path | None = None  # whoever sends what it holds may read this database's metrics
    delivery: DeliverySettings = DeliverySettings()
    uploads: UploadSettings = UploadSettings()
    sources: tuple[ISourceSettings, ...] = ()  # behind the bucket, in order

    @property
    def cache_ring(self) -> KeyRing | None:
        """What encrypts the cache; None: nothing does. Raises ConfigurationError where there are no keys for it."""
        if not self.cache_encrypt:
            return None
        encryption = self.store.encryption
        if encryption is None or encryption.ring is None:
            raise ConfigurationError(
                "cache-encrypt is on, and no section has keys to encrypt with: add <client-side-encryption> or <sse-c>,"
                " or set cache-encrypt off"
            )
        return encryption.ring
