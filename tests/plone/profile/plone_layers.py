"""plone.app.testing layers with the add-on's ZCML and profile, and with blobs that go to a bucket."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path

import plone.restapi
from plone.app.testing import PLONE_FIXTURE, FunctionalTesting, IntegrationTesting, PloneSandboxLayer
from plone.testing import zodb
from ZODB import DB
from ZODB.DemoStorage import DemoStorage

import collective.s3blobstorage
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage


class AddOnLayer(PloneSandboxLayer):
    """A Plone site where the add-on's profile is applied."""

    defaultBases = (PLONE_FIXTURE,)

    def setUpZope(self, app, configurationContext):
        # plone.app.testing turns autoinclude off: test_autoinclude.py and tests/plone/site show that it finds us.
        self.loadZCML(package=plone.restapi)
        self.loadZCML(package=collective.s3blobstorage)

    def setUpPloneSite(self, portal):
        self.applyProfile(portal, "collective.s3blobstorage:default")


ADD_ON = AddOnLayer()
INTEGRATION = IntegrationTesting(bases=(ADD_ON,), name="collective.s3blobstorage:Integration")


class OnS3(FunctionalTesting):
    """Each test commits to a DemoStorage of its own with our storage around it, under a prefix of its own.

    plone.testing stacks a DemoStorage for each test, which would keep the test's blobs in a temporary folder: it is
    told to stack ours instead.
    """

    def set_server(self, server, bucket: str) -> None:
        """Which S3 server to use; called before the first test is set up."""
        self._server = server
        self._bucket = bucket

    def testSetUp(self):
        self._cache_dir = Path(tempfile.mkdtemp(prefix="s3blobs-layer-"))
        self["prefix"] = f"layer/{uuid.uuid4().hex}"
        stack = zodb.stackDemoStorage
        zodb.stackDemoStorage = self._stack
        try:
            super().testSetUp()
        finally:
            zodb.stackDemoStorage = stack

    def testTearDown(self):
        super().testTearDown()  # closes the database and with it our storage
        del self["prefix"]
        shutil.rmtree(self._cache_dir)

    def _stack(self, db: DB, name: str) -> DB:
        store = StoreSettings(
            bucket=self._bucket,
            prefix=self["prefix"],
            endpoint_url=self._server.endpoint_url,
            region=self._server.region,
            access_key=self._server.access_key,
            secret_key=self._server.secret_key,
            create_bucket=True,
        )
        settings = StorageSettings(store=store, cache_dir=self._cache_dir, owner="tests")
        return DB(open_storage(DemoStorage(name=name, base=db.storage), settings))


FUNCTIONAL = OnS3(bases=(ADD_ON,), name="collective.s3blobstorage:Functional")
