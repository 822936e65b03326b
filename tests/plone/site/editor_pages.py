"""The face of the uploader, as tests use it: by what an editor sees and clicks. Waits for elements, not for a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from editor_site import Chosen

SECONDS = 120.0  # for 300 MB on a busy machine


class Uploader:
    """On the page ``@@upload-files``, or in a form: of the field ``within``."""

    def __init__(self, page: Any, within: str = ".s3blobs-uploader") -> None:
        self.page = page
        self.root = page.locator(within)
        self.root.locator(".uppy-Dashboard").first.wait_for()

    def choose(self, *files: Chosen) -> None:
        """By the dialog of "browse files"."""
        inputs = self.root.locator("input.uppy-Dashboard-input:not([webkitdirectory])")
        inputs.first.set_input_files([file.path for file in files])

    def drop(self, *paths: Path) -> None:
        """Dragged there from the desktop, files and folders, as the browser gets them from the window system."""
        box = self.root.locator(".uppy-Dashboard-inner").bounding_box()
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        session = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
        session.detach()

    def send(self) -> None:
        """The button "Upload 3 files"."""
        self.root.locator(".uppy-StatusBar-actionBtn--upload").click()

    def press(self, name: str) -> None:
        """A round button of the bar: Pause, Resume, Cancel."""
        self.root.locator(".uppy-StatusBar").get_by_role("button", name=name, exact=True).click()

    def wait_for_percent(self, percent: float) -> None:
        bar = self.root.locator(".uppy-StatusBar [role=progressbar]").first
        self.wait_until(lambda: float(bar.get_attribute("aria-valuenow") or 0) >= percent)

    def wait_until(self, condition: Any) -> None:
        """Asked from here, since a strict policy lets no script of a test wait in the page."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.root.inner_text()
            self.page.wait_for_timeout(50)

    def problems(self) -> list[str]:
        """Texts of what went wrong, once there is something."""
        entries = self.root.locator(".s3blobs-problems li")
        entries.first.wait_for()
        return entries.all_inner_texts()

    def uploaded(self, count: int) -> dict[str, str]:
        """Path in the site by title, once that many became content."""
        links = self.root.locator(".s3blobs-uploaded li a")
        self.wait_until(lambda: links.count() >= count)
        assert links.count() == count
        found = {link.inner_text(): urlsplit(link.get_attribute("href")).path for link in links.all()}
        return {title: path.removeprefix("/with/").removesuffix("/view") for title, path in found.items()}

    def unfinished(self) -> list[str]:
        entries = self.root.locator(".s3blobs-unfinished li")
        entries.first.wait_for()
        return entries.all_inner_texts()
