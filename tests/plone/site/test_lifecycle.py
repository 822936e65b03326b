"""What editors do to files later: copy, rename, edit, revert, delete; and what a Manager undoes of it.

Each test notes in ``ledger`` what must be readable at its end; the last one reads all of it after a restart with an
empty cache.
"""

from __future__ import annotations

import payloads
import pytest
from web_client import json_file
from zope_undo import undo_latest


class Ledger(dict[str, payloads.Payload]):
    """What a path of the site must deliver; and what its older versions must, by their numbers."""

    def __init__(self) -> None:
        self.versions: dict[str, list[payloads.Payload]] = {}

    def check(self, client, path: str, payload: payloads.Payload) -> None:
        """The path delivers the payload, now, and from now on."""
        answer = client.get(f"{path}/@@download/file")
        assert answer.status == 200
        assert payloads.fingerprint(answer.body) == payload.fingerprint
        self[path] = payload

    def gone(self, client, path: str) -> None:
        assert client.get(f"{path}/@@download/file").status == 404
        self.pop(path, None)

    def moved(self, client, path: str, new_path: str) -> None:
        """The path leads to the new one, which delivers what the old one did."""
        answer = client.get(f"{path}/@@download/file")
        assert answer.status in (301, 302)
        assert client.path_of(answer.headers["Location"]).startswith(f"{new_path}/")
        self.check(client, new_path, self.pop(path))


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger()


def as_json(payload: payloads.Payload) -> dict:
    return json_file(payload.data, payload.filename, payload.content_type)


@pytest.fixture
def add(editor, ledger, request):
    """Add a File with new content to ``files``; gives its path and what is in it."""

    def add(name: str) -> tuple[str, payloads.Payload]:
        payload = payloads.pdf(f"{name}.pdf")
        path = editor.add("files", "File", name, file=as_json(payload))
        ledger.check(editor, path, payload)
        return path, payload

    return add


def replace(editor, path: str) -> payloads.Payload:
    payload = payloads.pdf("replaced.pdf", kilobytes=35)
    editor.api("PATCH", path, {"file": as_json(payload)}, expect=204)
    return payload


def test_copy_is_a_blob_of_its_own(editor, ledger, add, site_bucket):
    original, payload = add("original")
    keys = site_bucket.keys()
    (copied,) = editor.api("POST", "files/@copy", {"source": f"{editor.url}/{original}"}, expect=200)
    copy = editor.path_of(copied["target"])
    assert copy != original
    ledger.check(editor, copy, payload)
    assert site_bucket.fingerprints(besides=keys) == {payload.fingerprint: 1}
    replacement = replace(editor, original)
    ledger.check(editor, original, replacement)
    ledger.check(editor, copy, payload)
    editor.api("DELETE", original, expect=204)
    ledger.gone(editor, original)
    ledger.check(editor, copy, payload)


def test_cut_and_paste_into_another_folder(editor, ledger, add, site_bucket):
    path, _ = add("to-move")
    folder = editor.add("files", "Folder", "elsewhere")
    keys = site_bucket.keys()
    (moved,) = editor.api("POST", f"{folder}/@move", {"source": f"{editor.url}/{path}"}, expect=200)
    ledger.moved(editor, path, editor.path_of(moved["target"]))
    assert site_bucket.keys() == keys


def test_rename_moves_no_bytes(editor, ledger, add, site_bucket):
    path, _ = add("before")
    keys = site_bucket.keys()
    editor.api("PATCH", path, {"id": "after"}, expect=204)
    ledger.moved(editor, path, "files/after")
    assert site_bucket.keys() == keys


def test_revert_to_each_older_version(editor, ledger, add):
    path, first = add("versions")
    second, third = replace(editor, path), replace(editor, path)
    ledger.check(editor, path, third)
    versions = [entry["version"] for entry in editor.api("GET", f"{path}/@history", expect=200) if "version" in entry]
    assert sorted(versions) == [0, 1, 2]
    ledger.versions[path] = [first, second, third]
    for version, payload in enumerate(ledger.versions[path]):
        editor.api("PATCH", f"{path}/@history", {"version": version}, expect=200)
        ledger.check(editor, path, payload)
        older = editor.get(f"{path}/@history/{version}", Accept="application/json")
        assert older.json["file"]["size"] == len(payload.data)


def test_delete(editor, ledger, add):
    path, _ = add("deleted")
    editor.api("DELETE", path, expect=204)
    ledger.gone(editor, path)


def test_undo_of_a_deletion(editor, admin, ledger, add):
    path, payload = add("deleted-and-undone")
    editor.api("DELETE", path, expect=204)
    ledger.gone(editor, path)
    undo_latest(admin, path)
    ledger.check(editor, path, payload)


def test_undo_and_redo_of_a_modification(editor, admin, ledger, add):
    path, first = add("modified-and-undone")
    second = replace(editor, path)
    ledger.check(editor, path, second)
    undo_latest(admin, path)
    ledger.check(editor, path, first)
    undo_latest(admin, "Undo")
    ledger.check(editor, path, second)


def test_undo_and_redo_of_a_creation(editor, admin, ledger):
    payload = payloads.pdf("created.pdf")
    path = editor.add("files", "File", "created-and-undone", file=as_json(payload))
    undo_latest(admin, "/with/files")
    ledger.gone(editor, path)
    undo_latest(admin, "Undo")
    ledger.check(editor, path, payload)


def test_all_of_it_after_a_restart_with_an_empty_cache(zope, editor, ledger):
    if not ledger:
        pytest.skip("reads what the tests above have made: run the module as a whole")
    zope.restart_with_empty_cache()
    for path, payload in dict(ledger).items():
        ledger.check(editor, path, payload)
    for path, older in ledger.versions.items():
        for version, payload in enumerate(older):
            editor.api("PATCH", f"{path}/@history", {"version": version}, expect=200)
            ledger.check(editor, path, payload)
