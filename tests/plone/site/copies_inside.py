"""A WSGI filter around Zope that notes each time ZODB had to copy a blob's file, since it could not rename it."""

import logging
import os


def noting(global_conf):
    """The lines go into the file that the environment names as ``COPIES``: where from, where to."""
    handler = logging.FileHandler(os.environ["COPIES"])
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ZODB.blob.copied")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    return lambda app: app
