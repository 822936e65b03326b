"""A process that runs a job until somebody ends it: for ``test_jobs.py``. One line of JSON in, lines out."""

import json
import sys
import time

from counting_work import Counting
from rings import store_from_json

from collective.s3blobstorage.errors import JobRuns
from collective.s3blobstorage.maintenance.jobs.jobs import Jobs
from collective.s3blobstorage.objectstore import open_store


def say(line):
    print(line, flush=True)


def main():
    given = json.loads(sys.stdin.readline())
    store = open_store(store_from_json(given["store"]))
    counting = Counting(given["steps"])
    jobs = Jobs(store, counting.for_all(), interrupted_after=given["after"])
    say("ready")
    sys.stdin.readline()
    try:
        job = jobs.start("count", {})
    except JobRuns as error:
        say(f"refused {error.id}")
    else:
        say(job.id)
        while jobs.running_here:
            time.sleep(0.02)
        say(f"ended after {counting.done}")
    sys.stdin.readline()
    jobs.close()
    store.close()


main()
