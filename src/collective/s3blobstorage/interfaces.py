"""What the package offers to Zope and Plone code: utilities, and thin views on the storage of a database.

Here only ``zope.interface`` is imported. The storage's own contracts are in ``storage/interfaces.py`` and in the other
folders' ``interfaces.py``.
"""

from zope.interface import Attribute, Interface


class IBlobStorages(Interface):
    """Utility: where the blobs of a database are. In the thread of a request; makes no request to a store."""

    def for_context(context):
        """The ``IDatabaseBlobs`` of the database that has the object, or else the nearest object that contains it.

        Never None and never an error: where there is no such database, or it has no ``<s3blobstorage>``, ``available``
        is false.
        """

    def get(name="main"):
        """The ``IDatabaseBlobs`` of a ``<zodb_db>`` of zope.conf, by its name. As ``for_context`` otherwise."""


class IURLSigner(Interface):
    """Utility: signs addresses below ``cdn-url-base``, for the CDN that is there. In the thread of a request.

    The one that is registered without a name is used: CloudFront's, unless an add-on's ``overrides.zcml`` has another.
    """

    def sign(url, expires, answer, delivery):
        """The address by which a browser gets the object until then, as text. Makes no request.

        ``url``: of the object below ``cdn-url-base``, without a query. ``expires``: a time with a zone. ``answer``: the
        headers that the answer has to have, by their names in lower case: ``content-type``, ``content-disposition``,
        ``cache-control``. They must be part of what is signed, else whoever has an address could have a file shown as a
        page. A CDN that cannot do that must not be asked: raise ConfigurationError, and the file is proxied.
        ``delivery``: zope.conf's ``DeliverySettings``.
        """


class IDatabaseBlobs(Interface):
    """Where one database's blobs are."""

    available = Attribute("bool: whether this process has a <s3blobstorage> around the database's storage")
    reason = Attribute("str: why it is not available, in a sentence for the operator; empty where it is")

    def space(name):
        """The objects of an add-on's own: an ``IObjectSpace`` (``objectspace/interfaces.py``), for any thread.

        ``name`` is the add-on's package, such as ``collective.reports``. Raises ValueError where it is no name for one,
        and ConfigurationError with the ``reason`` where there is no bucket.

        Below a DemoStorage, which does not change what is below it, the space refuses to write.
        """
