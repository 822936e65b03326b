"""Inside Zope, for test_wsgi_bodies.py: a view that returns a blob's open file, and a filter that sees what bodies are.

``BODIES`` in the environment is the file into which the filter notes, a line each, the class of what is given to the
server's ``wsgi.file_wrapper``.
"""

import os

from Products.Five.browser import BrowserView


class OpenFile(BrowserView):
    """What add-ons do: ZODB's own file of a blob may be returned."""

    def __call__(self):
        return self.context.file.open()


def noting(global_conf):
    """A filter for Paste's pipeline."""
    return Noting


class Noting:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        wrapper = environ["wsgi.file_wrapper"]

        def file_wrapper(file, *arguments):
            with open(os.environ["BODIES"], "a") as notes:
                notes.write(f"{type(file).__module__}.{type(file).__name__}\n")
            return wrapper(file, *arguments)

        return self.app({**environ, "wsgi.file_wrapper": file_wrapper}, start_response)
