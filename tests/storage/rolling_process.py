"""A process of a site, with the old configuration or the new one: commits blobs and reads everybody's, until it is told
to end.

Started by test_rolling_change.py with a name and the file of its configuration. Each line that it prints is a JSON
document; the last one says what it committed and how many reads it made.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
from pathlib import Path

import transaction
import ZODB
import ZODB.config
from ZODB.blob import Blob
from ZODB.POSException import ConflictError


def run(name: str, configuration: str, stop: threading.Event) -> dict:
    db = ZODB.DB(ZODB.config.storageFromString(Path(configuration).read_text()))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    chance = random.Random(name)
    told = {"commits": 0, "reads": 0, "conflicts": 0, "committed": {}}
    print(json.dumps({"ready": name}), flush=True)
    while not stop.is_set():
        manager.begin()
        folder = connection.root()["blobs"]
        known = sorted(folder)
        # What the others committed, and everything again now and then: each holds its own SHA-256.
        for other in chance.sample(known, min(len(known), 4)):
            with folder[other]["file"].open("r") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            assert digest == folder[other]["sha256"], (name, other)
            told["reads"] += not other.startswith(name)
        data = os.urandom(chance.choice([0, 10, 3000, 400_000]))
        mine = f"{name}{chance.randrange(12)}"
        digest = hashlib.sha256(data).hexdigest()
        if mine in folder:
            with folder[mine]["file"].open("w") as file:
                file.write(data)
            folder[mine]["sha256"] = digest
        else:
            entry = folder[mine] = type(folder)()
            entry["file"], entry["sha256"] = Blob(data), digest
        try:
            manager.commit()
        except ConflictError:  # two new names at once
            manager.abort()
            told["conflicts"] += 1
            continue
        told["commits"] += 1
        told["committed"][mine] = digest
    manager.abort()
    connection.close()
    db.close()
    return told


def main() -> None:
    name, configuration = sys.argv[1:]
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print(json.dumps(run(name, configuration, stop)), flush=True)


if __name__ == "__main__":
    main()
