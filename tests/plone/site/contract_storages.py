"""``IBlobStorages`` for a test's Zope, where jobs and status of each database are those of ``contract_blobs``."""

from contract_blobs import Jobs, Status
from zope.interface import implementer

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.utilities import BlobStorages

KEYS = [{"id": f"key-{number}"} for number in range(30)]
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
        if blobs.name not in MADE:
            settings = blobs._storage._settings
            status = Status(
                blobs.name,
                base="filestorage",
                store={"bucket": settings.store.bucket, "prefix": settings.store.prefix, "owner": settings.owner},
                reachable=True,
                encryption={"mode": "client-side", "required": True, "active_key": "key-0", "keys": KEYS},
                cache={"folder": str(settings.cache_dir)},
            )
            MADE[blobs.name] = Jobs(why_not={"migrate": "there is no <blobdirsource>"}), status
        jobs, status = MADE[blobs.name]
        blobs.jobs, blobs.status = lambda: jobs, lambda: status
    return blobs
