"""Which <s3blobstorage> sections the command finds in which file, and what it says where there is none."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import one_line, s3blobs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from collective.s3blobstorage.cli.command import run
from collective.s3blobstorage.cli.configuration import choose, opened_read_only, parse_text, read
from collective.s3blobstorage.errors import ConfigurationError

IMPORT = "%import collective.s3blobstorage\n"
MAPPING = "<mappingstorage/>"


def ours(name: str = "", bucket: str = "plone-blobs", base: str = MAPPING, more: str = "") -> str:
    return (
        f"<s3blobstorage{' ' + name if name else ''}>\n  bucket-name {bucket}\n  cache-dir /nonexistent/cache\n"
        f"{more}{base}\n</s3blobstorage>\n"
    )


ZOPE = (
    IMPORT
    + "%define HOME @HOME@\ninstancehome $HOME\ndebug-mode off\n"
    + "<environment>\n  S3BLOBS_TEST_VARIABLE set\n  zope_i18n_compile_mo_files true\n</environment>\n"
    + "<dos_protection>\n  form-memory-limit 4MB\n</dos_protection>\n"
    + "<product-config beaker>\n  session.type memory\n</product-config>\n"
    + "<zodb_db main>\n  mount-point /\n  cache-size 30000\n  connection-class ZODB.Connection.Connection\n"
    + ours(base="<filestorage>\npath $HOME/Data.fs\n</filestorage>")
    + "</zodb_db>\n"
    + "<zodb_db temporary>\n  mount-point /temp_folder\n  <mappingstorage>\n  name temporary\n  </mappingstorage>\n"
    + "</zodb_db>\n"
)
ZEO_PLAIN = IMPORT + "<zeo>\n  address 127.0.0.1:8100\n</zeo>\n" + ours("1")
# as plone.recipe.zeoserver and cookiecutter-zope-instance write it
ZEO_INSTANCE = (
    IMPORT
    + "%define INSTANCE @HOME@\n<zeo>\n  address 8100\n  read-only false\n  invalidation-queue-size 100\n"
    + "  pid-filename $INSTANCE/zeo.pid\n</zeo>\n"
    + ours("1", base="<filestorage>\npath $INSTANCE/Data.fs\n</filestorage>")
    + "<eventlog>\n  level info\n  <logfile>\n    path $INSTANCE/zeo.log\n    format %(asctime)s %(message)s\n"
    + "  </logfile>\n</eventlog>\n"
    + "<runner>\n  program $INSTANCE/bin/runzeo\n  socket-name $INSTANCE/zeo.zdsock\n  daemon true\n"
    + "  forever false\n  backoff-limit 10\n  exit-codes 0, 2\n  directory $INSTANCE\n  default-to-interactive true\n"
    + "  zdrun $INSTANCE/bin/zdrun\n  logfile $INSTANCE/zeo.log\n</runner>\n"
)
SQLITE = "<relstorage>\n  <sqlite3>\n    data-dir @HOME@\n  </sqlite3>\n</relstorage>"
ZODBCONVERT = (
    IMPORT + "<filestorage source>\n  path @HOME@/Data.fs\n</filestorage>\n" + ours("destination", base=SQLITE)
)


def written(folder: Path, text: str, name: str = "zope.conf") -> Path:
    path = folder / name
    path.write_text(text.replace("@HOME@", str(folder)), encoding="utf-8")
    return path


@pytest.mark.parametrize("with_schemas", [True, False], ids=["schemas", "storages alone"])
@pytest.mark.parametrize(
    "text, names, base",
    [
        (ZOPE, ["main"], "filestorage"),
        (ZEO_PLAIN, ["1"], "mappingstorage"),
        (ZEO_INSTANCE, ["1"], "filestorage"),
        (ZODBCONVERT, ["destination"], "relstorage"),
        (IMPORT + ours(), ["unnamed"], "mappingstorage"),
        (IMPORT + f"<zodb Main>\n{ours()}</zodb>", ["main"], "mappingstorage"),
        (IMPORT + f"<zodb>\ndatabase-name catalog\n{ours()}</zodb>", ["catalog"], "mappingstorage"),
        (IMPORT + f"<demostorage 1>\n{ours('base')}</demostorage>", ["1"], "mappingstorage"),
        (f"<zodb a>\n{IMPORT}{ours()}</zodb>\n<zodb b>\n{ours()}</zodb>", ["a", "b"], "mappingstorage"),
        (ours().replace("<s3", IMPORT + "<s3"), ["unnamed"], "mappingstorage"),
    ],
)
def test_sections_are_found(tmp_path, monkeypatch, text, names, base, with_schemas):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "zdrun").touch()
    found = read(written(tmp_path, text), with_schemas=with_schemas)
    assert [database.name for database in found] == names
    assert {database.base_type for database in found} == {base}
    assert {database.settings.store.bucket for database in found} == {"plone-blobs"}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "bin", tmp_path / "zope.conf"]  # nothing was opened or made


def test_section_in_an_included_file_with_its_definitions(tmp_path):
    (tmp_path / "conf.d").mkdir()
    written(tmp_path / "conf.d", f"<zodb main>\n{ours(bucket='$BUCKET')}</zodb>\n", "databases.conf")
    path = written(tmp_path, IMPORT + "%define BUCKET from-main\n%include conf.d/databases.conf\n")
    [database] = read(path)
    assert database.settings.store.bucket == "from-main"


def test_environment_of_zope_conf_is_set_after_the_file_was_read(tmp_path):
    text = ZOPE.replace("S3BLOBS_TEST_VARIABLE set", "AWS_S3_ENDPOINT_URL http://127.0.0.1:9\n  TMPDIR @HOME@")
    code = (
        "import os, sys, tempfile; from pathlib import Path; tempfile.gettempdir()\n"
        "from collective.s3blobstorage.cli.configuration import read\n"
        f"[one] = read(Path({str(written(tmp_path, text))!r}), with_schemas=sys.argv[1] == 'schemas')\n"
        "print(one.settings.store.endpoint_url, tempfile.gettempdir(), os.environ['zope_i18n_compile_mo_files'])"
    )
    for argument in ("schemas", "storages"):
        printed = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
        assert printed.stdout.split() == ["http://127.0.0.1:9", str(tmp_path), "true"]
    with pytest.raises(ConfigurationError, match="no replacement for 'S3BLOBS_TEST_NOT_YET'"):
        text = ZOPE.replace("S3BLOBS_TEST_VARIABLE", "S3BLOBS_TEST_NOT_YET")
        read(written(tmp_path, text.replace("plone-blobs", "$(S3BLOBS_TEST_NOT_YET)")))


def test_without_relstorage_imported_by_name_zope_conf_is_refused_as_zope_does(tmp_path):
    text = IMPORT + f"instancehome @HOME@\n<zodb_db main>\nmount-point /\n{ours(base=SQLITE)}</zodb_db>\n"
    with pytest.raises(ConfigurationError, match="<relstorage>: its %import is missing"):
        read(written(tmp_path, text))
    [database] = read(written(tmp_path, "%import relstorage\n" + text))
    assert database.base_type == "relstorage"


@pytest.mark.parametrize(
    "text, message",
    [
        (IMPORT + ours(bucket="$(S3BLOBS_TEST_UNSET)"), "no replacement for 'S3BLOBS_TEST_UNSET' (line 3 in @PATH@)"),
        (IMPORT + ours(bucket="A"), "bucket-name 'A' is not the name of a bucket. Allowed: "),
        (IMPORT + ours(more="  no-such-key 1\n"), "'no-such-key' is not a key of <s3blobstorage>. Its keys: "),
        (IMPORT + ours(base=""), "<s3blobstorage>: the storage inside is missing"),
        (IMPORT + "<s3blobstorage>\n", "unclosed sections not allowed (line 2 in @PATH@)"),
        (IMPORT + "<zodb>\n</zod>\n", "unbalanced section end (line 3 in @PATH@)"),
        (IMPORT + ours(base="<zlibstorage>\n</zlibstorage>"), "has a section <zlibstorage>: its %import is missing"),
        (ours(), "no package that was imported has a section <s3blobstorage>: add a line %import collective"),
        ("%import zodb_s3blobs\n" + ours(), "run `s3blobs zope-conf FILE`"),
        ("%import no.such\n<nosuchstorage>\n</nosuchstorage>", "<nosuchstorage> (%import no.such: could not load"),
        ("%include http://127.0.0.1:9/x\n", "%include http://127.0.0.1:9/x: only files are read"),
        ("%include missing.conf\n", "missing.conf"),
        ("<filestorage>\n path @HOME@/Data.fs\n</filestorage>", "has no <s3blobstorage> section; `s3blobs zope-conf "),
        (IMPORT + ours("a") + ours("b"), "several <s3blobstorage> sections; choose with --database: a, b"),
        ("\udcff", "is not encoded as UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(tmp_path, capsys, text, message):
    path = tmp_path / "zope.conf"
    path.write_bytes(text.replace("@HOME@", str(tmp_path)).encode("utf-8", "surrogateescape"))
    assert run(["--config", str(path), "status"]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith("s3blobs: ") and complaint.count("\n") == 1
    assert message.replace("@PATH@", str(path)) in complaint


def test_missing_file_missing_option_and_wrong_name(tmp_path):
    assert "no configuration: give --config FILE" in one_line(s3blobs("status"))
    result = s3blobs("--config", tmp_path / "none.conf", "status")
    assert (result.returncode, "none.conf" in one_line(result)) == (2, True)
    path = written(tmp_path, IMPORT + ours("a") + ours("b"))
    result = s3blobs("--config", path, "--database", "c", "status")
    assert result.returncode == 2
    assert one_line(result) == f"s3blobs: --database 'c' is not in {path}; it has: a, b"
    assert choose(read(path), "B", path).name == "b"


def test_error_as_json_is_the_only_thing_on_standard_output(tmp_path):
    result = s3blobs("--config", written(tmp_path, IMPORT + ours(bucket="A")), "status", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"].startswith("bucket-name 'A' is not the name of a bucket")


def test_debug_shows_a_traceback_without_the_secret(tmp_path):
    secret = "this-is-the-secret-of-the-test"
    more = f"  s3-access-key someone\n  s3-secret-key {secret}\n  s3-endpoint-url http://127.0.0.1:9\n"
    path = written(tmp_path, IMPORT + ours(more=more))
    result = s3blobs("--debug", "--config", path, "status")
    assert result.returncode == 2
    assert "Traceback" in result.stderr and "DEBUG" not in result.stdout
    assert secret not in result.stderr + result.stdout


def test_reading_makes_no_socket(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a socket was made")

    path = written(tmp_path, ZEO_PLAIN.replace(MAPPING, "<zeoclient>\nserver 127.0.0.1:9\n</zeoclient>"))
    monkeypatch.setattr(socket.socket, "__init__", refuse)
    assert read(path)[0].base_type == "zeoclient"


def test_text_with_unset_variables_is_verified_as_far_as_it_can(tmp_path):
    text = (
        IMPORT
        + "<s3blobstorage>\n  bucket-name $(UNSET_BUCKET)\n  cache-dir $(UNSET_CACHE)\n  cache-size $(UNSET_SIZE)\n"
        + "  s3-access-key AKIA\n  s3-secret-key-file $(UNSET_FILE)\n  s3-sse-customer-key $(UNSET_KEY)\n"
        + "<relstorage>\n  cache-prefix $(UNSET_PREFIX)\n  <postgresql>\n    dsn $(UNSET_DSN)\n  </postgresql>\n"
        + "</relstorage>\n</s3blobstorage>\n"
    )
    databases, unset = parse_text(text, tmp_path / "site.conf")
    assert [database.base_type for database in databases] == ["relstorage"]
    assert {f"UNSET_{name}" for name in ("BUCKET", "CACHE", "SIZE", "FILE", "KEY", "PREFIX", "DSN")} == unset
    with pytest.raises(ConfigurationError, match="cache-size 'x' is not a size"):
        parse_text(text.replace("$(UNSET_SIZE)", "x"), tmp_path / "site.conf")
    with pytest.raises(ConfigurationError, match="no replacement for 'UNDEFINED'"):
        parse_text(text.replace("$(UNSET_SIZE)", "$UNDEFINED"), tmp_path / "site.conf")


@pytest.mark.parametrize(
    ("unset", "lines"),
    [
        ("URL", ["cdn-url-base $(UNSET_URL)", "cdn-key-pair-id K2JCJMDEHXQW5F"]),
        (
            "PAIR",
            ["cdn-url-base https://cdn.example.org", "cdn-key-pair-id $(UNSET_PAIR)", "cdn-private-key-file {key}"],
        ),
        ("FILE", ["cdn-url-base https://cdn.example.org", "cdn-key-pair-id K2", "cdn-private-key-file $(UNSET_FILE)"]),
    ],
)
def test_unset_variables_of_a_cdn(tmp_path, unset, lines):
    """What belongs together is not missed because a variable of the site's is not one of this shell's."""
    key = tmp_path / "key.pem"
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key.write_bytes(made.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    key.chmod(0o600)
    text = "\n  ".join(["<s3blobstorage>", "bucket-name plone-blobs", "cache-dir /nonexistent", *lines])
    text = IMPORT + text.replace("{key}", str(key)) + "\n<mappingstorage/>\n</s3blobstorage>\n"
    _, names = parse_text(text, tmp_path / "site.conf")
    assert names == {f"UNSET_{unset}"}


def test_unset_variables_of_sources(tmp_path):
    text = (
        IMPORT
        + "<s3blobstorage>\n  bucket-name plone-blobs\n  cache-dir /nonexistent\n"
        + "<s3source production>\n  bucket-name $(UNSET_BUCKET)\n  s3-access-key $(UNSET_ACCESS)\n"
        + "  s3-secret-key $(UNSET_KEY)\n  fork-time $(UNSET_FORK)\n  timeout 1s\n</s3source>\n"
        + "<blobdirsource>\n  path $(UNSET_PATH)\n</blobdirsource>\n<mappingstorage/>\n</s3blobstorage>\n"
    )
    [database], unset = parse_text(text, tmp_path / "site.conf")
    assert [source.options.name for source in database.settings.sources] == ["production", "blobdirsource"]
    assert {f"UNSET_{name}" for name in ("BUCKET", "ACCESS", "KEY", "FORK", "PATH")} == unset
    with pytest.raises(ConfigurationError, match="timeout 'x' is not an interval"):
        parse_text(text.replace("timeout 1s", "timeout x"), tmp_path / "site.conf")


def test_unset_variables_of_encryption(tmp_path):
    """Which key is the active one is the site's to say; that the section has it is not in doubt here."""
    text = (
        IMPORT
        + "<s3blobstorage>\n  bucket-name plone-blobs\n  cache-dir /nonexistent\n"
        + "<client-side-encryption>\n  active-key $(UNSET_ACTIVE)\n"
        + "<key k1>\n  value $(UNSET_VALUE)\n</key>\n<key k2>\n  file $(UNSET_FILE)/key\n</key>\n"
        + "<key k3>\n  command $(UNSET_COMMAND) x\n</key>\n<kms-key k4>\n  kms-key-id $(UNSET_KMS)\n"
        + "  region $(UNSET_REGION)\n</kms-key>\n</client-side-encryption>\n"
        + "<sse-c>\n  ACTIVE-key $(UNSET_ACTIVE)\n<key k5>\n  value $(UNSET_VALUE)\n</key>\n</sse-c>\n"
        + "<sse-kms>\n  encryption-context $(UNSET_CONTEXT)\n</sse-kms>\n<mappingstorage/>\n</s3blobstorage>\n"
    )
    [database], unset = parse_text(text, tmp_path / "site.conf")
    assert database.settings.store.encryption.ring.ids == ("k1", "k2", "k3", "k4", "k5")
    names = ("ACTIVE", "VALUE", "FILE", "COMMAND", "KMS", "REGION", "CONTEXT")
    assert {f"UNSET_{name}" for name in names} == unset
    with pytest.raises(ConfigurationError, match="active-key 'x' is none of the section's keys"):
        parse_text(text.replace("active-key $(UNSET_ACTIVE)", "active-key x"), tmp_path / "site.conf")
    with pytest.raises(ConfigurationError, match="it has no key"):
        parse_text(text.replace("<key k5>\n  value $(UNSET_VALUE)\n</key>\n", ""), tmp_path / "site.conf")


def test_a_key_that_the_file_gives_is_known_to_the_redaction(tmp_path):
    from collective.s3blobstorage.objectstore.redaction import redact

    key, theirs = (base64.b64encode(data * 32).decode() for data in (b"k", b"t"))
    path = tmp_path / "site.conf"
    path.write_text(
        IMPORT
        + "<s3blobstorage>\n  bucket-name plone-blobs\n  cache-dir /nonexistent\n"
        + f"<client-side-encryption>\n<key k1>\n  value {key}\n</key>\n</client-side-encryption>\n"
        + f"<s3source>\n  bucket-name production\n  s3-sse-customer-key {theirs}\n</s3source>\n"
        + "<mappingstorage/>\n</s3blobstorage>\n"
    )
    assert redact(f"{key} {theirs} {'k' * 32}") == f"{key} {theirs} {'k' * 32}"
    read(path)
    assert redact(f"{key} {theirs} {'k' * 32}") == "[hidden] [hidden] [hidden]"


def test_base_is_opened_read_only_beside_the_process_that_holds_its_lock(tmp_path):
    from ZODB.DB import DB
    from ZODB.FileStorage import FileStorage

    writer = DB(FileStorage(str(tmp_path / "Data.fs")))
    path = written(tmp_path, IMPORT + ours(base="<filestorage>\npath @HOME@/Data.fs\n</filestorage>"))
    [database] = read(path)
    before = {entry.name: entry.stat().st_mtime_ns for entry in tmp_path.iterdir()}
    with opened_read_only(database.factory.config.base) as base:
        assert base.isReadOnly()
        assert base.lastTransaction() == writer.storage.lastTransaction()
    assert {entry.name: entry.stat().st_mtime_ns for entry in tmp_path.iterdir()} == before
    assert database.factory.config.base.config.read_only is None  # the section itself is as it was read
    writer.close()


def test_read_only_reaches_the_storages_inside(tmp_path):
    base = "<demostorage>\n<filestorage base>\npath @HOME@/Data.fs\n</filestorage>\n</demostorage>"
    [database] = read(written(tmp_path, IMPORT + ours(base=base)))
    with pytest.raises(FileNotFoundError), opened_read_only(database.factory.config.base):
        pass
    assert not (tmp_path / "Data.fs").exists()
    assert tempfile.gettempdir()
