"""Whether everything that the database needs is in the bucket as it shall be: ``s3blobs fsck``.

Kept revisions and the bucket's listing are two sorted streams; nothing is asked for a blob alone but for what looks
wrong. What looks wrong is looked at again, in the database and in the bucket of then: beside a site that writes, packs
and undoes, a line of the listing is older or newer than the record beside it. ``deep`` reads the objects too. Nothing
is changed but where ``mend`` is asked for.
"""
