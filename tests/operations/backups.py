"""The backups of a site, made every night as ``docs/operations.md`` says, "Back up"."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

from fixtures_servers import s3_client
from operated_site import Following, OperatedSite
from servers.ministack import MiniStack

READING = ["s3:GetObject", "s3:ListBucket"]
ADDING = [*READING, "s3:PutObject"]
RCLONE = {"mtime", "btime"}  # metadata that it adds


def policy(actions: list[str], bucket: str) -> dict[str, Any]:
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}]}


class Backups:
    """What lies in ``/srv/backup``, and a bucket at another provider.

    The keys of rclone may do what the page says and no more: read here, read and write there.
    """

    bucket = "site-copy"

    def __init__(self, site: OperatedSite, folder: Path, elsewhere: MiniStack) -> None:
        self.site, self.folder, self.elsewhere = site, folder, elsewhere
        folder.mkdir()
        self.there = s3_client(elsewhere)
        self.there.create_bucket(Bucket=self.bucket)
        here = site.server.create_user(f"reading-{site.bucket}", policy(READING, site.bucket))
        there = elsewhere.create_user("copying", policy(ADDING, self.bucket))
        reader = elsewhere.create_user("reading", policy(READING, self.bucket))
        site.variables |= {"COPY_ACCESS_KEY": reader[0], "COPY_SECRET_KEY": reader[1]}
        site.names |= {
            "/Plone": "/with",
            "/srv/backup": str(folder),
            "/srv/plone/bin": site.environment()["PATH"].split(":")[0],
            "https://s3.elsewhere.example": elsewhere.endpoint_url,
            "plone-blobs-copy": self.bucket,
            "READING_KEY": here[0],
            "READING_SECRET": here[1],
            "WRITING_KEY": there[0],
            "WRITING_SECRET": there[1],
        }

    def take(self, follow: Following) -> None:
        """What the operator installs: the next three blocks of the page."""
        real = self.site.real
        (self.folder / "rclone.conf").write_text(real(follow.text("ini")))
        script = self.folder / "backup"
        script.write_text(real(follow.text("sh")))
        script.chmod(0o700)
        *variables, line = real(follow.text("cron")).splitlines()
        when = re.fullmatch(r"10 2 \* \* \*\s+(.+)", line)
        assert when is not None, line
        self.command = when[1]
        self.environment = dict(each.split("=", 1) for each in variables)  # cron's, and no other
        exported = "".join(f"export {name}='{value}'\n" for name, value in self.site.variables.items())
        (self.site.home / "etc" / "environment").write_text(exported)

    def night(self) -> str:
        """Cron does its line; what it mails. A second has ended afterwards: the dates of repozo have no fractions."""
        ran = self.run()
        assert (ran.returncode, ran.stderr) == (0, ""), f"{ran.stdout}\n{ran.stderr}"
        time.sleep(1)
        return ran.stdout

    def run(self) -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", "-c", self.command]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)

    def write_rclone(self, name: str, server: Any, access_key: str, secret_key: str) -> None:
        """``{name}.conf`` with one place of that name."""
        lines = ["type = s3", "provider = Other", f"endpoint = {server.endpoint_url}"]
        lines += [f"access_key_id = {access_key}", f"secret_access_key = {secret_key}"]
        (self.folder / f"{name}.conf").write_text(f"[{name}]\n" + "\n".join(lines))

    def write_conf(self) -> None:
        """``copy.conf``: zope.conf with the copy's bucket, endpoint and keys."""
        text = (self.site.home / "etc" / "zope.conf").read_text()
        for old, new in (
            (self.site.bucket, self.bucket),
            (self.site.server.endpoint_url, self.elsewhere.endpoint_url),
            ("$(S3_", "$(COPY_"),
        ):
            assert old in text
            text = text.replace(old, new)
        (self.folder / "copy.conf").write_text(text)

    def objects(self, client: Any, bucket: str) -> dict[str, tuple[str, dict[str, str]]]:
        """ETag and metadata of each blob's object."""
        found = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="blobs/"):
            for entry in page.get("Contents", ()):
                told = client.head_object(Bucket=bucket, Key=entry["Key"])
                ours = {name: value for name, value in told["Metadata"].items() if name not in RCLONE}
                found[entry["Key"]] = told["ETag"], ours
        return found
