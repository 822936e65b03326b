"""``s3blobs manifest`` beside a running Plone: every file with the path, type and field that its editors know."""

from __future__ import annotations

import hashlib
import json

import payloads
from command_line import s3blobs
from web_client import json_file


def fields(payload: payloads.Payload) -> dict:
    return json_file(payload.data, payload.filename, payload.content_type)


def test_paths_are_those_of_the_site(zope, editor, tmp_path):
    """A file with versions, an image with a scale, one that was renamed, one below a new folder, and a deleted one."""
    made = {name: payloads.pdf(f"{name}.pdf") for name in ("one", "two", "three", "moved", "deeper", "deleted")}
    path = editor.add("files", "File", "manifest-versions", file=fields(made["one"]))
    for name in ("two", "three"):
        editor.api("PATCH", path, {"file": fields(made[name])}, expect=204)
    renamed = editor.add("files", "File", "manifest-before", file=fields(made["moved"]))
    editor.api("PATCH", renamed, {"id": "manifest-after"}, expect=204)
    folder = editor.add("files", "Folder", "manifest-folder")
    editor.add(folder, "File", "manifest-deeper", file=fields(made["deeper"]))
    deleted = editor.add("files", "File", "manifest-deleted", file=fields(made["deleted"]))
    editor.api("DELETE", deleted, expect=204)
    picture = payloads.png("manifest.png")
    image = editor.add("files", "Image", "manifest-picture", image=fields(picture))
    scaled = editor.get(f"{image}/@@images/image/preview")
    assert scaled.status == 200 and scaled.body != picture.data

    target = tmp_path / "manifest.ndjson"
    result = s3blobs("--config", zope.home / "etc" / "zope.conf", "manifest", "--to", target)
    assert result.returncode == 0, result.stderr
    entries = [json.loads(line) for line in target.read_bytes().splitlines()[1:-1]]
    by_hash: dict[str, list[dict]] = {}
    for entry in entries:
        by_hash.setdefault(entry["sha256"], []).append(entry)

    def told(data: bytes) -> set[tuple]:
        found = by_hash[hashlib.sha256(data).hexdigest()]
        return {(each["path"], each["type"], each["field"], each.get("past", False)) for each in found}

    files = "/with/files"
    assert (f"{files}/manifest-versions", "File", "file", False) in told(made["three"].data)
    assert told(made["moved"].data) == {(f"{files}/manifest-after", "File", "file", False)}
    assert told(made["deeper"].data) == {(f"{files}/manifest-folder/manifest-deeper", "File", "file", False)}
    assert told(made["deleted"].data) == {(f"{files}/manifest-deleted", "File", "file", True)}
    assert told(picture.data) == {(f"{files}/manifest-picture", "Image", "image", False)}
    # Older versions: where they were, or in the version history; never as if they were there now.
    for name in ("one", "two"):
        assert all(past and kind == "File" for _, kind, _, past in told(made[name].data))
    scales = [each for each in entries if each["path"] == f"{files}/manifest-picture" and each["field"] != "image"]
    assert {each["field"] for each in scales} == {"plone.scale"}
    assert hashlib.sha256(scaled.body).hexdigest() in {each["sha256"] for each in scales}

    types = s3blobs("--config", zope.home / "etc" / "zope.conf", "report", "types", "--json")
    assert {"File", "Image"} <= {row["type"] for row in json.loads(types.stdout)["rows"]}
