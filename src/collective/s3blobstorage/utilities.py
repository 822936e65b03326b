"""The utility by which Plone code reaches the storage of a database."""

import Zope2
from Acquisition import aq_base, aq_inner, aq_parent
from ZODB.DemoStorage import DemoStorage
from zope.interface import implementer

from .errors import ConfigurationError
from .interfaces import IBlobStorages, IDatabaseBlobs, IKeyRing
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


@implementer(IDatabaseBlobs)
class DatabaseBlobs:
    """Of a database whose blobs are in a bucket."""

    available = True
    reason = ""

    def __init__(self, storage, *, writable):
        self._storage = storage
        self._writable = writable

    def space(self, name):
        return self._storage.space(name, writable=self._writable)

    def key_ring(self):
        return self._storage.key_ring(writable=self._writable)


@implementer(IDatabaseBlobs)
class NoDatabaseBlobs:
    """The null object."""

    available = False

    def __init__(self, reason):
        self.reason = reason

    def space(self, name):
        addon_prefix(name)
        raise ConfigurationError(f"there is no bucket for objects of add-ons: {self.reason}")

    def key_ring(self):
        raise ConfigurationError(f"there are no keys: {self.reason}")


@implementer(IKeyRing)
def key_ring(blobs):
    """Adapts an ``IDatabaseBlobs``. Raises ConfigurationError where there is no bucket."""
    return blobs.key_ring()


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
            f"the database {database.database_name!r} has no <s3blobstorage> in the configuration of this process"
        )
    return DatabaseBlobs(storage, writable=writable)
