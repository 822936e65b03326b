"""Garbage collection: what nothing refers to goes, in time, and nothing else ever does.

``plan`` reads: a listing of the prefix, then the database, and says of each object whether a kept revision uses it.
What none uses gets a date in the ledger, and is condemned once that date is old. ``execute`` deletes what a plan
condemned, after it has asked the database again. ``round`` is both at once, for ``pack()``. ``margins`` names every
safety margin.

What gc keeps in the bucket, below ``gc/``: the ledger, a lease, plans, and what the site's processes tell of their
database (``storage/witness.py``); below ``gc-log/`` a line for each object that was deleted.
"""
