"""docs/operations.md, "The database is lost"."""

from __future__ import annotations

import json
import shutil
import subprocess

import payloads
from operated_site import PASSWORD


def fingerprints(folder) -> dict[str, tuple[int, str]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): payloads.fingerprint(path.read_bytes()) for path in files}


def test_the_database_is_lost(site, made_database):
    follow = site.follow("The database is lost", {"/Plone": "/with"})
    site.variables["PLONE_LOGIN"] = f"admin:{PASSWORD}"
    site.start()
    site.upload("first", "second", "third")
    before = site.files["first"]
    site.replace("first", payloads.pdf("changed.pdf"))
    subprocess.run(
        ["s3blobs", "manifest", "--in-bucket"], env=site.environment(), check=True, stdout=subprocess.DEVNULL
    )
    site.upload("late")
    late = site.files.pop("late")
    site.stop()
    for path in (site.home / "var").iterdir():
        path.unlink()
    site.empty_cache()

    follow.run()
    follow.run()
    named = fingerprints(site.home / "files" / "by-path")
    assert named == {f"with/files/{name}": payload.fingerprint for name, payload in site.files.items()}
    example = json.loads(follow.text("json"))
    told = json.loads((site.home / "files" / "by-path.ndjson").read_text().splitlines()[0])
    assert example.keys() == told.keys() and example["file"].replace("/Plone", "/with") == told["file"]
    follow.run()
    unnamed = fingerprints(site.home / "objects" / "without-tid")
    everything = [*site.files.values(), before, late]
    assert sorted(unnamed.values()) == sorted(payload.fingerprint for payload in everything)

    site.add(follow.conf())
    shutil.copy(made_database, site.database)
    site.start()
    (site.home / "bring_back.py").write_text(site.real(follow.text("python")))
    follow.run()
    site.assert_files_are_right()
    follow.run()
    follow.end()
    site.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
