"""The utility ``IBlobStorages`` over real databases: in whose bucket an add-on's objects are, if there is one."""

from __future__ import annotations

import dataclasses
import io

import pytest
import ZODB
from origins import add_blob
from persistent.mapping import PersistentMapping
from rings import client_side
from sites import ALL, bucket_keys, commit_blobs, connected, read_blob
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from zope.interface.verify import verifyObject

from collective.s3blobstorage.directupload.interfaces import Arrived, IUploadArea
from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import ConfigurationError, Refused, Unavailable
from collective.s3blobstorage.keys import upload_key
from collective.s3blobstorage.objectspace.interfaces import IObjectSpace
from collective.s3blobstorage.settings import DeliverySettings

Zope2 = pytest.importorskip("Zope2")  # the utility is Plone's side; the storage's own tests need no Plone

from Acquisition import Implicit  # noqa: E402

from collective.s3blobstorage.interfaces import (  # noqa: E402
    IBlobOverlay,
    IBlobStorages,
    IDatabaseBlobs,
    IKeyRing,
)
from collective.s3blobstorage.maintenance.jobs.interfaces import IJobs  # noqa: E402
from collective.s3blobstorage.utilities import BlobStorages, key_ring, overlay  # noqa: E402

NAME = "collective.x"


@pytest.fixture
def storages():
    return BlobStorages()


def of_addons(site) -> list[str]:
    return [key for key in bucket_keys(site.settings.store) if key.startswith("addons/")]


@pytest.mark.parametrize("kind", ALL)
def test_the_bucket_of_the_contexts_database(make_site, storages, kind):
    delivery = DeliverySettings(presign_max_expiry=60.0, public_url_base="https://files.example.org")
    site = make_site(kind, delivery=delivery)
    db = site.db()
    commit_blobs(db, a=b"a blob")
    assert verifyObject(IBlobStorages, storages)
    with connected(db) as connection:
        blobs = storages.for_context(connection.root())
        assert verifyObject(IDatabaseBlobs, blobs) and blobs.available and blobs.reason == ""
        space = blobs.space(NAME)
    assert verifyObject(IObjectSpace, space)
    status = blobs.status()
    assert blobs.snippet() == ""
    told = status.document()
    assert (told["database"], told["store"]["bucket"]) == (blobs.name, site.settings.store.bucket)
    jobs = blobs.jobs()
    assert verifyObject(IJobs, jobs) and jobs.list() == ([], 0)
    assert not next(one for one in jobs.kinds() if one.name == "count").why_not
    area = blobs.uploads()
    assert verifyObject(IUploadArea, area) and area.why_not() == ""
    area.drop(area.begin(1))
    assert verifyObject(IBlobOverlay, blobs.overlay()) and told["sources"] == blobs.overlay().sources() == []
    # The connection is closed: a space belongs to none.
    space.put("a", b"data")
    space.put("large", io.BytesIO(bytes(2 * 1024 * 1024)))
    assert space.get("a") == b"data" and of_addons(site) == [f"addons/{NAME}/a", f"addons/{NAME}/large"]
    assert space.durable_url("a") == f"https://files.example.org/addons/{NAME}/a"
    signed = space.presigned_get("a", seconds=10**6)
    assert 0 < (signed.expires - space.head("a").last_modified).total_seconds() < 120
    if kind != "demostorage":  # which has no pack with changes of its own
        db.pack()
    assert space.get("a") == b"data"
    with pytest.raises(ValueError, match="example: collective.reports"):
        blobs.space("../blobs")


def test_each_database_has_its_own(make_site, storages, settings):
    databases = {}
    sites = [make_site("filestorage", store=dataclasses.replace(settings, prefix=name)) for name in ("main", "other")]
    for name, site in zip(("main", "other"), sites, strict=True):
        site._later(ZODB.DB(site.open(), database_name=name, databases=databases))
    with connected(databases["main"]) as connection:
        storages.for_context(connection.root()).space(NAME).put("x", b"of main")
        storages.for_context(connection.get_connection("other").root()).space(NAME).put("x", b"of other")
    for site in sites:
        assert of_addons(site) == [f"addons/{NAME}/x"]


class Item(Implicit):
    pass


class View:
    def __init__(self, context):
        self.__parent__ = context


def test_the_nearest_object_that_is_in_a_database(make_site, storages):
    with connected(make_site("filestorage").db()) as connection:
        root = connection.root()
        folder = PersistentMapping()
        assert folder._p_jar is None
        folder.__parent__ = root["folder"] = holder = PersistentMapping()
        connection.transaction_manager.commit()
        assert holder._p_jar is not None
        for context in (folder, View(folder), View(View(holder)), Item().__of__(Item().__of__(Parent(holder)))):
            assert storages.for_context(context).available


class Parent(Implicit):
    def __init__(self, parent):
        self.__parent__ = parent


def test_what_is_in_no_database(storages):
    around = Parent(None)
    around.__parent__ = around
    for context in (None, object(), "text", PersistentMapping(), View(None), Item(), around):
        blobs = storages.for_context(context)
        assert not blobs.available and verifyObject(IDatabaseBlobs, blobs)
        assert blobs.reason == "neither the object nor what contains it is in a database"
        for ask in (lambda blobs=blobs: blobs.space(NAME), blobs.uploads):
            with pytest.raises(ConfigurationError, match="neither the object"):
                ask()
        with pytest.raises(ValueError, match="example: collective.reports"):
            blobs.space("")


def test_a_database_without_a_bucket(storages):
    for storage in (MappingStorage(), DemoStorage()):
        db = ZODB.DB(storage, database_name="catalog")
        with connected(db) as connection:
            blobs = storages.for_context(connection.root())
        assert not blobs.available and "'catalog' has no <s3blobstorage>" in blobs.reason
        with pytest.raises(ConfigurationError, match="'catalog' has no <s3blobstorage>"):
            blobs.space(NAME)
        db.close()


def test_below_a_demo_storage_nothing_is_changed(make_site, storages):
    site = make_site("filestorage")
    db = site.db()
    with connected(db) as connection:
        blobs = storages.for_context(connection.root())
        blobs.space(NAME).put("x", b"below")
        sent = blobs.uploads().begin(1, single=True)
        sent_etag = db.storage.store_.put_bytes(upload_key(sent.id), b"x").etag
    demo = DemoStorage(base=db.storage, close_base_on_close=False)
    for top in (ZODB.DB(demo), ZODB.DB(demo.push())):
        with connected(top) as connection:
            blobs = storages.for_context(connection.root())
        space = blobs.space(NAME)
        assert blobs.available and space.get("x") == b"below"
        assert blobs.status().document()["store"]["bucket"] == site.settings.store.bucket
        assert all("DemoStorage" in one.why_not for one in blobs.jobs().kinds())
        area = blobs.uploads()
        assert "DemoStorage" in area.why_not() and area.arrived(sent) == [Arrived(1, 1, sent_etag)]
        for change in (
            lambda area=area: area.begin(1),
            lambda area=area: area.put_request(sent, seconds=60),
            lambda area=area: area.post_request(sent, seconds=60),
            lambda area=area: area.part_request(sent, 1, seconds=60),
            lambda area=area: area.finish(sent),
            lambda area=area: area.drop(sent),
        ):
            with pytest.raises(ConfigurationError, match="below a DemoStorage"):
                change()
        for write in (
            lambda space=space: space.put("x", b"above"),
            lambda space=space: space.copy("x", "y"),
            lambda space=space: space.delete_prefix("", dry_run=False),
            lambda space=space: space.presigned_put("x", seconds=60, size=1),
        ):
            with pytest.raises(Refused, match="only be read here"):
                write()
    assert of_addons(site) == [f"addons/{NAME}/x"]


def test_a_demo_storage_whose_changes_are_ours(make_site, storages, settings):
    below = make_site("filestorage", store=dataclasses.replace(settings, prefix="below"))
    above = make_site("filestorage", store=dataclasses.replace(settings, prefix="above"))
    top = ZODB.DB(DemoStorage(base=below.open(), changes=above.open(), close_base_on_close=False))
    with connected(top) as connection:
        storages.for_context(connection.root()).space(NAME).put("x", b"above")
    top.close()
    assert (of_addons(below), of_addons(above)) == ([], [f"addons/{NAME}/x"])


def test_a_storage_that_is_read_only(make_site, storages):
    site = make_site("filestorage")
    with connected(site.db()) as connection:
        storages.for_context(connection.root()).space(NAME).put("x", b"x")
    site.close_all()
    with connected(site.db(read_only=True)) as connection:
        space = storages.for_context(connection.root()).space(NAME)
    assert space.get("x") == b"x"
    with pytest.raises(Refused):
        space.put("x", b"y")


def test_a_store_that_is_out_at_the_start(make_site, storages, proxy, settings, monkeypatch):
    from collective.s3blobstorage.storage import opening

    monkeypatch.setattr(opening, "ASK_AGAIN", 0.0)
    proxy.down()
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0)
    site = make_site("filestorage", store=store, start_degraded=True, preflight_deadline=0.0)
    with connected(site.db()) as connection:
        space = storages.for_context(connection.root()).space(NAME)
    for verb in (
        lambda: space.get("x"),
        lambda: space.get("x", encryption=NoEncryption()),
        lambda: space.presigned_get("x", seconds=60),
    ):
        with pytest.raises(Unavailable):
            verb()
    proxy.up()
    space.put("x", b"x", encryption=NoEncryption())
    space.copy("x", "y", encryption=NoEncryption(), source_encryption=NoEncryption())
    assert space.get("y") == b"x" and space.get("y", encryption=NoEncryption()) == b"x"


# By name


def test_a_database_by_its_name(make_site, storages, monkeypatch):
    databases = {}
    site = make_site("filestorage")
    main = site._later(ZODB.DB(site.open(), database_name="main", databases=databases))
    other = ZODB.DB(MappingStorage(), database_name="temporary", databases=databases)
    monkeypatch.setattr(Zope2, "DB", main)
    assert storages.get().space(NAME).put("x", b"x").key == "x" and of_addons(site) == [f"addons/{NAME}/x"]
    assert "'temporary' has no <s3blobstorage>" in storages.get("temporary").reason
    assert storages.get("none").reason == "zope.conf has no database 'none'; it has main, temporary"
    assert [(name, blobs.name, blobs.available) for name, blobs in storages.all()] == [
        ("main", "main", True),
        ("temporary", "temporary", False),
    ]
    monkeypatch.setattr(Zope2, "DB", None)
    assert storages.all() == []
    assert storages.get().reason == "no Zope application runs in this process"
    other.close()


def test_the_keys_of_a_database(make_site, storages, settings):
    """What they are, how many objects need them, and a rotation; never their bytes."""
    old = client_side(active="old", old=b"o" * 32, new=b"n" * 32)
    new = client_side(active="new", old=b"o" * 32, new=b"n" * 32)
    site = make_site("filestorage", store=dataclasses.replace(settings, encryption=old))
    db = site.db()
    commit_blobs(db, a=b"a blob", b=b"another")
    with connected(db) as connection:
        ring = key_ring(storages.for_context(connection.root()))
    assert verifyObject(IKeyRing, ring) and ring.mode == "client-side" and ring.coverage() is None
    assert [(key.id, key.state, key.writes) for key in ring.list()][0] == ("old", "active", True)
    assert ring.active().id == "old"
    db.close()
    db = site.db(store=dataclasses.replace(settings, encryption=new))
    with connected(db) as connection:
        ring = key_ring(storages.for_context(connection.root()))
        told = []
        report = ring.rotate(advance=lambda objects, size: told.append(objects))
        assert report.count("rewrapped").blobs == 2 <= sum(told) and not report.failures.count
        assert ring.active().id == "new" and ring.coverage() is not None
        assert {key.id: key.state for key in ring.list()} == {"new": "active", "old": "superseded"}
        assert read_blob(db, "a") == b"a blob"
        for shown in (repr(ring), repr(ring.list()), repr(ring.coverage())):
            assert "nnnn" not in shown and "oooo" not in shown
    with connected(ZODB.DB(DemoStorage(base=db.storage, close_base_on_close=False))) as connection:
        with pytest.raises(ConfigurationError, match="read-only"):
            key_ring(storages.for_context(connection.root())).rotate()
    with pytest.raises(ConfigurationError, match="neither the object"):
        key_ring(storages.for_context(None))


def test_the_sources_of_a_database(make_staging, storages):
    """What they are, and where a revision would be read from; never an address of one."""
    staging = make_staging("bushy", source=lambda origin: origin.with_options(name="old", type="blobdirsource"))
    db = staging.db(inline_size=16)
    revisions = staging.origin.revisions
    with connected(db) as connection:
        blobs = storages.for_context(connection.root())
        sources = overlay(blobs)
        assert verifyObject(IBlobOverlay, sources)
        assert sources.sources() == [{"name": "old", "type": "blobdirsource", "mirror": "off"}]
        assert {sources.where(oid, tid) for oid, tid in revisions} == {"old"}
        add_blob(db, "new", b"x" * 100)
        add_blob(db, "tiny", b"x")
        connection.sync()
        for name, place in (("new", "bucket"), ("tiny", "record")):
            blob = connection.root()[name]
            blob._p_activate()
            assert sources.where(blob._p_oid, blob._p_serial) == place
        oid, tid = next(iter(revisions))
        assert sources.where(oid, b"\1" * 8) is None and sources.where(b"\7" * 8, tid) is None
    with pytest.raises(ConfigurationError, match="no sources: neither the object"):
        overlay(storages.for_context(None))


def test_a_revision_that_is_nowhere(make_staging, storages):
    staging = make_staging("bushy", source=lambda origin: origin.with_options(negative_cache=0.0))
    (oid, tid), _ = next(iter(staging.origin.revisions.items()))
    with connected(staging.db()) as connection:
        sources = storages.for_context(connection.root()).overlay()
        assert sources.where(oid, tid) is not None
        for path in staging.origin.source.path.rglob("*.blob"):
            path.unlink()
        assert sources.where(oid, tid) is None


def test_without_a_source_there_is_the_bucket(make_site, storages):
    with connected(make_site("filestorage").db()) as connection:
        assert storages.for_context(connection.root()).overlay().sources() == []


@pytest.mark.parametrize("on", [False, True])
def test_site_operations_are_those_of_the_section(make_site, storages, on):
    with connected(make_site("filestorage").db(site_operations=on)) as connection:
        assert storages.for_context(connection.root()).site_operations is on
    assert storages.for_context(None).site_operations is False
