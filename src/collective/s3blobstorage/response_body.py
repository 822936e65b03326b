"""The body of a response whose view returned ``blob.open()``, or a placeholder of a blob that is missing.

ZPublisher gives any open file to the server's ``wsgi.file_wrapper``, and waitress reads that in its one event loop, for
all clients. That is right for a file on the disk. Over a reader that waits for the store it would stop them all.
"""

import os

from zope.component import adapter
from zope.interface import implementer
from ZPublisher.interfaces import IPubBeforeCommit
from ZPublisher.Iterators import IStreamIterator

from .cache.partreader import PartReader
from .storage.placeholder import placeholder_at

CHUNK = 64 * 1024  # bytes; what ZPublisher's own filestream_iterator gives at a time


@implementer(IStreamIterator)
class Chunks:
    """What a reader still holds. Without ``read``, ``seek`` and ``tell``: a server iterates it in the request's thread.

    Raises what reading raises: Unavailable, Refused, Corrupt, BlobMissing; the client then gets fewer bytes than
    ``Content-Length`` says, and knows by that.
    """

    def __init__(self, reader):
        self._reader = reader

    def __len__(self):
        position = self._reader.tell()
        size = self._reader.seek(0, 2)
        self._reader.seek(position)
        return size - position

    def __iter__(self):
        return self

    def __next__(self):
        data = self._reader.read(CHUNK)
        if not data:
            raise StopIteration
        return data

    def close(self):
        self._reader.close()


@adapter(IPubBeforeCommit)
def give_no_reader_to_the_server(event):
    """Called when the view has returned, in the thread of the request; makes no request to the store."""
    response, reader = event.request.response, event.request.response.body
    if not isinstance(reader, PartReader):
        return
    # Not setBody: the headers are set, Content-Length too.
    if event.request.method == "HEAD":
        response.body = b""  # waitress would read all of it and send nothing
        reader.close()
    else:
        response.body = Chunks(reader)


@adapter(IPubBeforeCommit)
def give_a_placeholder_its_length(event):
    """plone.namedfile keeps the size that the real file had, and says it in ``Content-Length``.

    Called as above. A range of the real file is none of the placeholder: it is given whole, as an answer to any range
    may be.
    """
    response = event.request.response
    iterator = response.body
    file = getattr(iterator, "_io", iterator)  # of plone.namedfile's filestream_range_iterator
    path = placeholder_at(getattr(file, "name", None))
    if path is None:
        return
    if iterator is not file:
        iterator.start, iterator.end = 0, None
        file.seek(0)
    if response.getStatus() == 206:
        response.setStatus(200)
        response.headers.pop("content-range", None)
    response.setHeader("Content-Length", str(os.path.getsize(path)))
