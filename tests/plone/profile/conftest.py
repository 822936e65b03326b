"""Fixtures of the tests that run inside this process, on plone.app.testing's layers.

They are in a folder of their own, since pytest-plone starts the Plone layer for every test below this file.
"""

from __future__ import annotations

import uuid

import pytest
from plone_layers import FUNCTIONAL, INTEGRATION
from pytest_plone import fixtures_factory

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
