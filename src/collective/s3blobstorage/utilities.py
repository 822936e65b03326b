"""The utility by which Plone code reaches the storage of a database."""

import Zope2
from Acquisition import aq_base, aq_inner, aq_parent
from App.config import getConfiguration
from ZODB.DemoStorage import DemoStorage
from zope.interface import implementer

from .cli.conf_snippet import can_be_written, in_memory, snippet
from .errors import ConfigurationError
from .interfaces import IBlobOverlay, IBlobStorages, IDatabaseBlobs, IKeyRing
from .keys import addon_prefix
from .storage.interfaces import IBlobObjects


@implementer(IBlobStorages)
class BlobStorages:
    """See ``IBlobStorages``."""

    def for_context(self, context):
        connection = _connection_of(context)
        if connection is None:
            return NoDatabaseBlobs("neither the object nor what contains it is in a database")
        return _blobs_of(connection.db())

    def get(self, name="main"):
        main = Zope2.DB
        if main is None:
            return NoDatabaseBlobs("no Zope application runs in this process")
        database = main.databases.get(name)
        if database is None:
            known = ", ".join(sorted(main.databases))
            return NoDatabaseBlobs(f"zope.conf has no database {name!r}; it has {known}")
        return _blobs_of(database)

    def all(self):
        databases = {} if Zope2.DB is None else Zope2.DB.databases
        names = sorted(databases, key=lambda name: (name != "main", name))
        return [(name, _blobs_of(databases[name])) for name in names]


@implementer(IDatabaseBlobs)
class DatabaseBlobs:
    """Of a database whose blobs are in a bucket."""

    available = True
    reason = ""

    def __init__(self, name, storage, *, writable):
        self.name = name
        self._storage = storage
        self._writable = writable

    @property
    def site_operations(self):
        return self._storage.site_operations

    def space(self, name):
        return self._storage.space(name, writable=self._writable)

    def key_ring(self):
        return self._storage.key_ring(writable=self._writable)

    def overlay(self):
        return self._storage.sources()

    def uploads(self):
        return self._storage.upload_area(writable=self._writable)

    def status(self):
        return self._storage.status(self.name, writable=self._writable)

    def jobs(self):
        return self._storage.jobs(writable=self._writable)

    def holds(self):
        return self._storage.holds(writable=self._writable)

    def admits_to_metrics(self, token):
        return self._storage.admits_to_metrics(token)

    def snippet(self):
        return ""


@implementer(IDatabaseBlobs)
class NoDatabaseBlobs:
    """The null object."""

    available = False
    site_operations = False

    def __init__(self, reason, name=""):
        self.name = name
        self.reason = reason

    def space(self, name):
        addon_prefix(name)
        raise ConfigurationError(f"there is no bucket for objects of add-ons: {self.reason}")

    def key_ring(self):
        raise ConfigurationError(f"there are no keys: {self.reason}")

    def overlay(self):
        raise ConfigurationError(f"there are no sources: {self.reason}")

    def uploads(self):
        raise ConfigurationError(f"there is no bucket to upload to: {self.reason}")

    def status(self):
        raise ConfigurationError(f"there is no bucket whose status could be told: {self.reason}")

    def holds(self):
        raise ConfigurationError(f"there is no bucket whose objects could be held: {self.reason}")

    def jobs(self):
        raise ConfigurationError(f"there is no bucket that jobs could work on: {self.reason}")

    def admits_to_metrics(self, token):
        return False

    def snippet(self):
        factories = _configured()
        if self.name not in factories:
            return ""
        return snippet(factories[self.name], name=self.name, alone=len(factories) == 1)


@implementer(IKeyRing)
def key_ring(blobs):
    """Adapts an ``IDatabaseBlobs``. Raises ConfigurationError where there is no bucket."""
    return blobs.key_ring()


@implementer(IBlobOverlay)
def overlay(blobs):
    """Adapts an ``IDatabaseBlobs``. Raises ConfigurationError where there is no bucket."""
    return blobs.overlay()


def _configured():
    """What ZConfig made of each ``<zodb_db>`` of the zope.conf that this process runs with, by name.

    Empty where it runs without one, as in tests. A database in memory is nobody's whose blobs need a place.
    """
    dbtab = getattr(getConfiguration(), "dbtab", None)
    factories = {} if dbtab is None else dbtab.db_factories
    return {
        name: factory
        for name, factory in factories.items()
        if can_be_written(factory) and not in_memory(factory.config.storage)
    }


def _connection_of(context):
    """Of the object, or of the nearest one that contains it: what was not added to its container yet has none."""
    seen = set()
    while context is not None and id(aq_base(context)) not in seen:
        seen.add(id(aq_base(context)))
        connection = getattr(aq_base(context), "_p_jar", None)
        if connection is not None:
            return connection
        context = aq_parent(aq_inner(context))
    return None


def _blobs_of(database):
    storage, writable = database.storage, True
    while isinstance(storage, DemoStorage):
        if IBlobObjects.providedBy(storage.changes):
            storage = storage.changes
        else:
            storage, writable = storage.base, False
    if not IBlobObjects.providedBy(storage):
        return NoDatabaseBlobs(
            f"the database {database.database_name!r} has no <s3blobstorage> in the configuration of this process",
            database.database_name,
        )
    return DatabaseBlobs(database.database_name, storage, writable=writable)
