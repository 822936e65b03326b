"""Fixtures of the tests that run inside this process, on plone.app.testing's layers.

They are in a folder of their own, since pytest-plone starts the Plone layer for every test below this file.
"""

from __future__ import annotations

import pytest
from plone_layers import FUNCTIONAL, INTEGRATION
from pytest_plone import fixtures_factory

globals().update(fixtures_factory(((INTEGRATION, "integration"), (FUNCTIONAL, "functional"))))


@pytest.fixture(autouse=True, scope="session")
def layers_of_the_session(integration_session, functional_session):
    """Sets each layer up once. pytest-plone does so itself since 1.1; the one for Plone 6.1 is older."""


@pytest.fixture
def package_name() -> str:
    return "collective.s3blobstorage"
