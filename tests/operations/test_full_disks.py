"""docs/operations.md, "A disk is full"."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import payloads
import pytest
from web_client import json_file


class Disk:
    """A small one, mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "of-others"

    def fill(self) -> None:
        for size in (65536, 1):
            with self.filler.open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(size))

    def free(self) -> None:
        self.filler.unlink()

    @contextmanager
    def full(self):
        self.fill()
        yield
        self.free()


@pytest.fixture
def disk():
    """Makes a folder a disk of 64 MB with the files that it had."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    mounted = []

    def mount(folder: Path) -> Disk:
        folder.mkdir(exist_ok=True)
        kept = folder.with_name(f"{folder.name}-before")
        shutil.copytree(folder, kept)
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no small disk could be mounted: {made.stderr.strip()}")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        return Disk(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def refused(site, name: str, kilobytes: int = 60) -> str:
    """How an editor sees that a file was not taken; nothing of it is there afterwards."""
    payload = payloads.pdf(f"{name}.pdf", kilobytes)
    file = json_file(payload.data, payload.filename, payload.content_type)
    try:
        told = site.editor.api("POST", "files", {"@type": "File", "id": name, "title": name, "file": file}, expect=500)
    except ConnectionError:
        return "closed"
    finally:
        assert site.editor.get(f"files/{name}").status == 404
    return told["message"]


FULL = "[Errno 28] No space left on device"


def test_full_disks(site, disk):
    cache, temporary, database = disk(site.home / "cache"), disk(site.zope.temporary), disk(site.home / "var")
    follow = site.follow("A disk is full")
    site.start()
    site.upload("first", kilobytes=200)
    site.pack()

    with cache.full():
        site.upload("second")
        site.upload("large", kilobytes=9000)
        site.assert_files_are_right()
        follow.run()
        with temporary.full():
            assert refused(site, "third") == FULL
            assert refused(site, "third-large", 9000) == "closed"
            assert_small_are_right(site)
            site.editor.api("PATCH", "files", {"title": "Changed"}, expect=204)
    site.assert_files_are_right()
    site.stop()
    site.add(follow.conf())
    site.start()
    site.assert_files_are_right()
    follow.run()

    temporary.fill()
    assert refused(site, "third") == FULL
    assert refused(site, "third-large", 9000) == "closed"
    assert_small_are_right(site)
    site.stop()
    name, folder = site.real(follow.text("sh")).removeprefix("export ").strip().split("=")
    Path(folder).mkdir()
    site.zope.environment = {**site.variables, name: folder}
    site.start()
    site.upload("third")
    temporary.free()

    database.fill()
    assert refused(site, "fourth") == FULL
    answer = site.editor.api("PATCH", "files/first", {"title": "No room"}, expect=500)
    assert answer["message"] == FULL
    site.assert_files_are_right()
    follow.run()
    site.editor.api("PATCH", "files/first", {"title": "There is room"}, expect=204)
    follow.run()
    follow.end()
    site.stop()
    cache_emptied(site)
    site.start()
    site.assert_files_are_right()


def assert_small_are_right(site) -> None:
    """The large one may fail or break off, and has no wrong byte; the first two are whole."""
    large = site.files.pop("large")
    site.assert_files_are_right()
    site.files["large"] = large
    try:
        answer = site.editor.get("files/large/@@download/file")
        assert answer.status == 500 or answer.body == large.data
    except (http.client.IncompleteRead, ConnectionError):
        pass


def cache_emptied(site) -> None:
    """It is a disk, which cannot be removed."""
    for path in (site.home / "cache").glob("*/"):
        shutil.rmtree(path)
