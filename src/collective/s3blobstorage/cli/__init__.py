"""The command ``s3blobs``: what an operator does with a bucket, a cache and a file of configuration.

Each verb is a module. Nothing of Zope or Plone is imported; boto3 and ZODB only by the verb that needs them.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its status; see docs/command.md. The main thread's."""
    try:
        from .command import run  # here, so that Ctrl-C while modules are imported ends like any other

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
