"""A manifest that was encrypted with a key of one's own goes to the next key with the blobs."""

from __future__ import annotations

from contextlib import closing

from rolling_keys import Stores, after, alone, before
from sites import raw_client

from collective.s3blobstorage.keys import MANIFESTS

KEY = f"{MANIFESTS}20261127T080000Z-040d4acf813bf0cc"
TEXT = b'{"path":"/Plone/news"}\n' * 100_000


def test_it_is_sealed_rewrapped_and_read_with_the_new_key_alone(settings, tmp_path):
    path = tmp_path / "manifest"
    path.write_bytes(TEXT)
    with closing(Stores(settings)) as stores:
        store = stores.open(before("client-side"))
        store.put_file(KEY, path, metadata={})
        assert store.protection(KEY).mode == "client-side"
        name = f"{settings.prefix}/{KEY}".lstrip("/")
        stored = raw_client(settings).get_object(Bucket=settings.bucket, Key=name)["Body"].read()
        assert b"Plone" not in stored and len(stored) > len(TEXT)
        told = stores.open(after("client-side")).protect(KEY, convert=False)
        assert told.what == "rewrapped" and told.after.key.startswith("two/")
        assert stores.open(alone("client-side")).get_bytes(KEY, limit=10_000_000) == TEXT
