"""A file of a real site whose object in the bucket is damaged, and checks of every file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from web_client import WebClient, json_file

DATA = b"of a reel " * 300


@dataclass(frozen=True)
class DamagedFile:
    """``oid`` as reports write it; ``key``: of its object in the bucket."""

    client: WebClient
    bucket: Any  # of conftest.py
    path: str
    key: str

    @classmethod
    def made(cls, client: WebClient, bucket: Any, name: str) -> DamagedFile:
        before = set(bucket.keys())
        path = client.add("files", "File", name, file=json_file(DATA, f"{name}.bin", "application/octet-stream"))
        (key,) = set(bucket.keys()) - before
        return cls(client, bucket, path, key)

    @property
    def oid(self) -> str:
        return hex(int(self.key.split("/")[-2], 16))

    @property
    def data(self) -> bytes | None:
        if self.key not in self.bucket.keys():
            return None
        return self.bucket.client.get_object(Bucket=self.bucket.name, Key=self.key)["Body"].read()

    def lose(self) -> None:
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self.key)

    def replace(self, change: Any) -> None:
        """Its bytes by ``change(bytes)``, with the metadata that it had."""
        had = self.bucket.client.get_object(Bucket=self.bucket.name, Key=self.key)
        self.bucket.client.put_object(
            Bucket=self.bucket.name, Key=self.key, Body=change(had["Body"].read()), Metadata=had["Metadata"]
        )

    def check(self, **options: Any) -> dict[str, Any]:
        """The job, as ``@blob-fsck`` tells of it when it has ended, with all that it found."""
        job = self.client.api("POST", "@blob-fsck", options, expect=202)
        until = time.monotonic() + 120
        while (told := self.client.api("GET", f"@blob-fsck/{job['id']}?b_size=1000", expect=200))["job"][
            "state"
        ] == "running":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert told["job"]["state"] == "done", told["job"]["error"]
        return told

    def found_in(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        return [each for each in told["items"] if each["oid"] == self.oid]

    def mend(self) -> None:
        """From the site's cache, which has it since it was committed."""
        assert self.found_in(self.check(deep=True, repair=True, dry_run=False)) == [] or self.data == DATA
