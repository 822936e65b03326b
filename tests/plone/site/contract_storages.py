"""``IBlobStorages`` for a test's Zope, where the jobs of each database are those of ``contract_blobs``."""

from contract_blobs import Jobs
from zope.interface import implementer

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.utilities import BlobStorages

MADE = {}


@implementer(IBlobStorages)
class Storages(BlobStorages):
    def for_context(self, context):
        return _with(super().for_context(context))

    def get(self, name="main"):
        return _with(super().get(name))

    def all(self):
        return [(name, _with(blobs)) for name, blobs in super().all()]


def _with(blobs):
    if blobs.available:
        jobs = MADE.setdefault(blobs.name, Jobs(why_not={"migrate": "there is no <blobdirsource>"}))
        blobs.jobs = lambda: jobs
    return blobs
