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

    def all():
        """The ``IDatabaseBlobs`` of every ``<zodb_db>`` of zope.conf, by name, ``main`` first: (name, blobs) pairs."""


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


class IUploadPolicy(Interface):
    """Subscription adapter of (context, request): says whether a file may be uploaded directly.

    In the request's thread. Any number of add-ons may register one (``<subscriber provides="…IUploadPolicy" for="… …"
    factory="…" />``); each is asked, after permissions and the site's own settings. ``context`` is the container, or
    the content whose file is replaced.
    """

    def check_start(announced):
        """Before anything is signed. ``announced``: an ``uploading.interfaces.Announced``, which is what the client
        says: filename, size in bytes, content type, portal type, field. Raise ``uploading.interfaces.UploadRefused``
        with a message for the editor, and nothing is begun."""

    def check_completed(announced, reader, sniffed):
        """Before it becomes content. ``reader``: a seekable binary file of the bytes that are there, of which only what
        is read is fetched; a scan of viruses reads it all, and the request waits for that. ``sniffed``: the content
        type that its first bytes look like, or None. Raise ``UploadRefused``: nothing is attached, and the upload is
        dropped."""


class IDatabaseBlobs(Interface):
    """Where one database's blobs are."""

    name = Attribute("str: the database's name in zope.conf; empty where there is none")
    available = Attribute("bool: whether this process has a <s3blobstorage> around the database's storage")
    reason = Attribute("str: why it is not available, in a sentence for the operator; empty where it is")
    site_operations = Attribute("bool: whether a site's managers may operate the whole database (site-operations)")

    def space(name):
        """The objects of an add-on's own: an ``IObjectSpace`` (``objectspace/interfaces.py``), for any thread.

        ``name`` is the add-on's package, such as ``collective.reports``. Raises ValueError where it is no name for one,
        and ConfigurationError with the ``reason`` where there is no bucket.

        Below a DemoStorage, which does not change what is below it, the space refuses to write.
        """

    def key_ring():
        """The keys that encrypt its blobs: an ``IKeyRing``, which ``IKeyRing(blobs)`` gives too.

        ConfigurationError with the ``reason`` where there is no bucket. Below a DemoStorage nothing can be rotated.
        """

    def overlay():
        """Its sources: an ``IBlobOverlay``. ConfigurationError with the ``reason`` where there is no bucket."""

    def uploads():
        """Where browsers put files: an ``IUploadArea`` (``directupload/interfaces.py``). ConfigurationError as above.

        Below a DemoStorage nothing can be uploaded."""

    def status():
        """What is known of it: an ``IStatus`` (``status/interfaces.py``). ConfigurationError as above."""

    def jobs():
        """Long work on it: an ``IJobs`` (``maintenance/jobs/interfaces.py``). ConfigurationError as above.

        Below a DemoStorage none can be started that writes.
        """

    def holds():
        """Legal holds of its blobs: a ``Holds`` (``maintenance/holds.py``). ConfigurationError as above.

        Below a DemoStorage none can be set."""

    def admits_to_metrics(token):
        """Whether a program that sends this token may read the database's metrics: ``metrics-token-file``, which is
        read again where it changed. False where there is no such file, or it cannot be used; the log says why."""

    def snippet():
        """Lines for zope.conf that would put this database's blobs into a bucket, made of the configuration that this
        process runs with, without any secret of it; "" where it has a bucket, where there is no database, where the
        database is in memory, or where the process runs without a zope.conf, as tests do."""


class IBlobOverlay(Interface):
    """The sources behind one database's bucket. Any thread."""

    def sources():
        """A plain dict for each ``<s3source>``, ``<blobdirsource>``, ``<basesource>`` or type of an add-on's, in the
        order in which they are asked: ``name``, ``type``, ``mirror`` (on, off or background), never an address."""

    def where(oid, tid):
        """Where that revision would be read from now: ``bucket``, the name of a source, ``record`` (inline), or None
        where it is nowhere. Makes one HEAD for each place that is asked. Raises as ``IObjectStore`` does."""


class IKeyRing(Interface):
    """The keys that encrypt one database's blobs: ``IKeyRing(blobs)`` of an ``IDatabaseBlobs``. Never a key's bytes.

    In any thread; each method makes requests to the store, and raises as ``IObjectStore`` does, RecordError where what
    the bucket knows of a key is damaged, and ConfigurationError with the ``reason`` where there is no bucket.
    """

    mode = Attribute("str: how blobs are written: none, sse-s3, sse-kms, sse-c, client-side, or an add-on's own")

    def list():
        """Every key that zope.conf or the bucket knows: ``KeyState``s (``maintenance/key_states.py``) with id, version,
        state, since when, and where zope.conf takes it from. The one that writes first. A request for each key."""

    def active():
        """The one of them that writes; None where none of ours does. Requests as ``list``."""

    def coverage():
        """How many objects and bytes need which key and mode, as they were counted last, and when: ``Figures``
        (``maintenance/usage.py``). None where nobody counted: ``s3blobs keys list --count``. One request."""

    def rotate(convert=False, stop=None, advance=None):
        """Bring every object to the key, and with ``convert`` to the mode, that is written with now; the report.

        Takes as long as there are objects, at least one request each: for a thread or a process of its own, never for
        one that serves visitors. ``stop``: a ``threading.Event`` that ends it, to be gone on with. ``advance(objects,
        bytes)`` is called as it goes on, in the thread of the caller. Raises Taken where another rotation or a garbage
        collection runs, UnsafeError where this process writes with a key that was superseded.
        """
