"""Fixtures of the tests that run inside this process, on plone.app.testing's layers.

They are in a folder of their own, since pytest-plone starts the Plone layer for every test below this file. As a plugin
of all tests it is switched off in setup.cfg: it imports Plone, a second of CPU time for each suite that needs none.
"""

from __future__ import annotations

import json
import uuid
from urllib.parse import parse_qsl

import pytest
from plone.app.testing import SITE_OWNER_NAME, login
from plone_layers import FUNCTIONAL, INTEGRATION
from pytest_plone import fixtures_factory
from pytest_plone.fixtures import *  # noqa: F403
from zope.component import getGlobalSiteManager, getMultiAdapter, getUtility
from zope.interface import alsoProvides

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.utilities import BlobStorages

SITE = "http://nohost/plone"

globals().update(fixtures_factory(((INTEGRATION, "integration"), (FUNCTIONAL, "functional"))))


@pytest.fixture(scope="session")
def layer_bucket() -> str:
    """The bucket of the functional layer; the first test's storage creates it."""
    return f"layer-{uuid.uuid4().hex[:20]}"


@pytest.fixture(autouse=True, scope="session")
def layers_of_the_session(s3_server, layer_bucket, integration_session, functional_session):
    """Sets each layer up once. pytest-plone does so itself since 1.1; the one for Plone 6.1 is older."""
    FUNCTIONAL.set_server(s3_server, layer_bucket)


@pytest.fixture
def package_name() -> str:
    return "collective.s3blobstorage"


class Storages(BlobStorages):
    """Whose jobs and status are those of the test, whichever database is asked for."""

    def __init__(self, jobs, status):
        self.jobs, self.status = jobs, status

    def for_context(self, context):
        blobs = super().for_context(context)
        blobs.jobs, blobs.status = lambda: self.jobs, lambda: self.status
        return blobs

    def get(self, name="main"):
        return self.for_context(self.site)


@pytest.fixture
def call(functional, jobs, status):
    """``call(method, path, body)``: (status, JSON, headers) of the service, asked as the application root's Manager.

    About the fixtures ``jobs`` and ``status`` of the test.
    """
    before, made = getUtility(IBlobStorages), Storages(jobs, status)
    made.site = functional["portal"]
    getGlobalSiteManager().registerUtility(made, IBlobStorages)
    login(functional["app"], SITE_OWNER_NAME)

    def call(method, path, body=None, **headers):
        request = functional["request"].clone()
        alsoProvides(request, IS3BlobStorageLayer)
        path, _, query = path.partition("?")
        name, *below = path.split("/")
        request.method = method
        request.environ.update({"CONTENT_TYPE": "application/json", "QUERY_STRING": query} | headers)
        request.set("BODY", b"" if body is None else json.dumps(body).encode())
        request.set("ACTUAL_URL", f"{SITE}/{path}")
        request.set("QUERY_STRING", query)
        request.form.update(parse_qsl(query))
        request._rest_service_id = f"{method}_application_json_"
        service = getMultiAdapter((functional["portal"], request), name=f"{request._rest_service_id}{name}")
        for part in below:
            service = service.publishTraverse(request, part)
        request._rest_cors_preflight = False
        told = service.reply()
        return request.response.getStatus(), json.loads(json.dumps(told)), request.response.headers

    yield call
    getGlobalSiteManager().registerUtility(before, IBlobStorages)
