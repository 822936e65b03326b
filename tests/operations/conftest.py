"""The site of ``docs/operations.md``, for each test one of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "plone" / "site"), str(TESTS / "storage")]

from operated_site import OperatedSite, plain_database  # noqa: E402


@pytest.fixture(scope="session")
def made_database(tmp_path_factory) -> Path:
    """The Data.fs of a site with nothing in it, in which there is no blob: it may be put below any storage."""
    return plain_database(tmp_path_factory.mktemp("made"))


@pytest.fixture
def site(made_database, s3_server, bucket, tmp_path) -> Iterator[OperatedSite]:
    """Configured as the page says, on an empty bucket; not started."""
    operated = OperatedSite(tmp_path / "plone", made_database, s3_server, bucket)
    yield operated
    operated.stop()
