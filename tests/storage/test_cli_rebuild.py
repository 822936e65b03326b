"""``s3blobs export`` without the database: by a manifest byte for byte, by the objects alone as far as it goes."""

from __future__ import annotations

import hashlib
import os

import pytest
from blob_sites import KINDS, files_of, fill, stock
from command_line import document, one_line
from sites import bucket_keys, commit_blobs, raw_client
from test_cli_export import export
from test_cli_manifest import manifest, of_another_owner, written
from test_cli_migrate import migrate, switched

MB = 1024 * 1024
OWNER = "owner old.example.org"


@pytest.mark.parametrize("kind", KINDS)
def test_by_a_manifest_as_with_the_database(old_site, settings, tmp_path, monkeypatch, kind):
    """Migrated blobs, named ones, and history: the same files; and nothing opens the database."""
    site = old_site(kind)
    db = site.db()
    fill(db, large=9 * MB)
    db.close()
    conf = site.conf(settings, OWNER)
    assert migrate(conf, site, store=settings).returncode == 0
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, a=b"after the migration", late=os.urandom(1000))
    db.close()
    assert export(conf, tmp_path / "with", store=settings).returncode == 0
    assert manifest(conf, "--in-bucket", store=settings).returncode == 0
    site.close()
    conf.write_text(conf.read_text().replace(f"{site.folder}/Data.fs", f"{site.folder}/gone.fs"))
    for name, arguments in (("dry", ["--dry-run"]), ("without", [])):
        result = export(conf, tmp_path / name, "--manifest", "latest", *arguments, "--json", store=settings)
        assert result.returncode == 0, result.stderr
    told = document(result)
    assert told["written"]["blobs"] == told["kept_revisions"] and told["without_tid"]["blobs"] == 0
    assert files_of(tmp_path / "without") == files_of(tmp_path / "with") != {}
    assert not (tmp_path / "dry").exists()
    again = document(export(conf, tmp_path / "without", "--manifest", "latest", "--json", store=settings))
    assert again["written"]["blobs"] == 0 and again["found"]["there"]["blobs"] == told["kept_revisions"]


@pytest.mark.clear
def test_inline_blobs_come_from_the_manifest(old_site, settings, tmp_path, monkeypatch):
    site = old_site()
    conf = site.conf(settings, OWNER, "inline-size 50")
    db = switched(conf, settings, monkeypatch)
    fill(db)
    db.close()
    written(conf, tmp_path / "m", store=settings)
    result = export(conf, tmp_path / "files", "--manifest", tmp_path / "m", "--json", store=settings)
    assert result.returncode == 0 and document(result)["found"]["inline"]["blobs"] == 0
    read = {data for _, _, data in stock(site, tmp_path / "files", tmp_path / "Copy.fs")}
    assert read >= {b"first of a", b"second of a", b"is there again"}


def test_what_is_lost_is_named(old_site, settings, tmp_path, monkeypatch):
    site = old_site()
    conf = site.conf(settings, OWNER)
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, a=b"is lost", b=b"stays")
    db.close()
    _, lines = written(conf, tmp_path / "m", store=settings)
    [lost] = [line for line in lines[1:-1] if line["size"] == 7]
    prefix = f"{settings.prefix}/" if settings.prefix else ""
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=prefix + lost["key"])
    result = export(conf, tmp_path / "files", "--manifest", tmp_path / "m", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and (told["missing"], told["written"]["blobs"]) == (1, 1)
    assert told["problems"][0]["oid"] == f"0x{int(lost['oid'], 16):02x}"


def test_by_the_objects_alone(old_site, settings, tmp_path, monkeypatch):
    """What a migration brought has its place; of what was committed since nobody knows the transaction."""
    site = old_site()
    db = site.db()
    fill(db)
    db.close()
    conf = site.conf(settings, OWNER)
    assert migrate(conf, site, store=settings).returncode == 0
    before = files_of(site.blobs)
    kept = site.kept()
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, a=b"after the migration", empty=b"")
    db.close()
    conf.write_text(conf.read_text().replace(f"{site.folder}/Data.fs", f"{site.folder}/gone.fs"))
    result = export(conf, tmp_path / "files", "--from-bucket", "--json", store=settings)
    told = document(result)
    assert result.returncode == 0, result.stderr
    assert files_of(tmp_path / "files") == {revision: data for revision, data in before.items() if revision in kept}
    rest = tmp_path / "files" / "without-tid"
    keys = {f"blobs/{path.parent.name}/{path.name}": path.read_bytes() for path in rest.glob("*/*")}
    assert sorted(keys.values()) == [b"", b"after the migration"] and set(keys) <= set(bucket_keys(settings))
    assert told["without_tid"] == {"blobs": 2, "bytes": 19}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in rest.glob("*/*"))
    again = document(export(conf, tmp_path / "files", "--from-bucket", "--json", store=settings))
    assert again["written"]["blobs"] == 0
    shown = export(conf, tmp_path / "files", "--from-bucket", store=settings)
    assert "2 blobs, 19 bytes, in without-tid/" in shown.stdout


def test_another_sites_manifest_and_bucket_are_refused(old_site, settings, tmp_path, monkeypatch):
    """The sentence names both owners, and not even the folder is made."""
    site = old_site()
    conf = site.conf(settings, OWNER)
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, a=b"1")
    db.close()
    written(conf, tmp_path / "m", store=settings)
    of_another_owner(tmp_path / "m")
    result = export(conf, tmp_path / "files", "--manifest", tmp_path / "m", store=settings)
    assert result.returncode == 2 and not (tmp_path / "files").exists()
    assert "new.example.org" in one_line(result) and "old.example.org" in one_line(result)
    conf.write_text(conf.read_text().replace(OWNER, "owner new.example.org"))
    for way in (("--manifest", tmp_path / "m"), ("--from-bucket",)):
        result = export(conf, tmp_path / "files", *way, store=settings)
        assert result.returncode == 2 and not (tmp_path / "files").exists()
        assert "new.example.org" in one_line(result) and "old.example.org" in one_line(result)
    # Who reads another's prefix on purpose says so, as to open it.
    conf.write_text(conf.read_text().replace("owner new.example.org", "owner new.example.org\nread-only on"))
    assert export(conf, tmp_path / "files", "--from-bucket", store=settings).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--manifest", "latest", "--from-bucket"), "give one"),
        (("--manifest", "latest", "--since", "2026-01-01"), "--since"),
        (("--from-bucket", "--oid-range", "0-1"), "--oid-range"),
        (("--manifest", "latest"), "--in-bucket"),
        (("--by-path",), "--manifest"),
        (("--from-bucket", "--by-path"), "--manifest"),
    ],
)
def test_wrong_options(old_site, settings, tmp_path, arguments, said):
    conf = old_site().conf(settings, OWNER)
    result = export(conf, tmp_path / "files", *arguments, store=settings)
    assert result.returncode == 2 and said in result.stderr and not (tmp_path / "files").exists()


def test_of_migrated_blobs_the_store_is_asked(old_site, settings, tmp_path):
    """Their records say nothing: with --ask the manifest has size and hash, also where an object was sealed."""
    site = old_site()
    db = site.db()
    commit_blobs(db, a=b"x" * 1000)
    db.close()
    conf = site.conf(settings, OWNER)
    assert migrate(conf, site, store=settings).returncode == 0
    _, lines = written(conf, tmp_path / "m", "--ask", store=settings)
    assert (lines[1]["size"], lines[1]["sha256"]) == (1000, hashlib.sha256(b"x" * 1000).hexdigest())
    told = document(manifest(conf, "--verify", tmp_path / "m", "--json", store=settings))
    assert told["found"]["there"] == {"blobs": 1, "bytes": 1000}
