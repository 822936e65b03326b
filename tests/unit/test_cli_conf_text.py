"""What `s3blobs zope-conf` makes of a text: tables, and properties over texts that hypothesis draws."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.cli.conf_lines import document
from collective.s3blobstorage.cli.conf_text import BlobDir, changed
from collective.s3blobstorage.cli.configuration import parse_text
from collective.s3blobstorage.errors import ConfigurationError

NEW = {"bucket-name": "plone-blobs", "cache-dir": "/nonexistent/cache"}
IMPORT = "%import collective.s3blobstorage\n"


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


CASES = {
    "zope.conf": (
        """
        # Zope of the intranet
        %define INSTANCE /srv/plone
        instancehome $INSTANCE

        # All content
        <zodb_db main>
            # Main FileStorage database
            <filestorage>
                path $INSTANCE/Data.fs
                # Pack at night
                blob-dir $INSTANCE/blobs

            </filestorage>
            mount-point /
        </zodb_db>
        """,
        """
        # Zope of the intranet
        %define INSTANCE /srv/plone
        instancehome $INSTANCE

        %import collective.s3blobstorage

        # All content
        <zodb_db main>
            # Main FileStorage database
            <s3blobstorage>
                bucket-name plone-blobs
                cache-dir /nonexistent/cache
                <filestorage>
                    path $INSTANCE/Data.fs
                    # Pack at night
                    # blob-dir $INSTANCE/blobs

                </filestorage>
            </s3blobstorage>
            mount-point /
        </zodb_db>
        """,
    ),
    "zeo.conf: the name of the storage is that of the section outside": (
        """
        <zeo>
          address 8100
        </zeo>
        <filestorage 1>
          path /srv/Data.fs
        </filestorage>
        <eventlog>
          level info
        </eventlog>
        """,
        """
        <zeo>
          address 8100
        </zeo>
        %import collective.s3blobstorage
        <s3blobstorage 1>
          bucket-name plone-blobs
          cache-dir /nonexistent/cache
          <filestorage 1>
            path /srv/Data.fs
          </filestorage>
        </s3blobstorage>
        <eventlog>
          level info
        </eventlog>
        """,
    ),
    "relstorage: after the imports, tabs, all that is about blobs": (
        """
        %import relstorage
        <zodb_db main>
        \tmount-point /
        \t<relstorage>
        \t\tBlob-Dir /srv/blobs
        \t\tshared-blob-dir  on
        \t\tblob-cache-size 1GB
        \t\t<postgresql>
        \t\t\tdsn dbname='plone' password='secret'
        \t\t</postgresql>
        \t</relstorage>
        </zodb_db>
        """,
        """
        %import relstorage
        %import collective.s3blobstorage
        <zodb_db main>
        \tmount-point /
        \t<s3blobstorage>
        \t\tbucket-name plone-blobs
        \t\tcache-dir /nonexistent/cache
        \t\t<relstorage>
        \t\t\t# Blob-Dir /srv/blobs
        \t\t\t# shared-blob-dir  on
        \t\t\t# blob-cache-size 1GB
        \t\t\t<postgresql>
        \t\t\t\tdsn dbname='plone' password='secret'
        \t\t\t</postgresql>
        \t\t</relstorage>
        \t</s3blobstorage>
        </zodb_db>
        """,
    ),
    "around what compresses": (
        "%import zc.zlibstorage\n<zlibstorage>\n  <filestorage>\n    path x\n  </filestorage>\n</zlibstorage>\n",
        "%import zc.zlibstorage\n%import collective.s3blobstorage\n<s3blobstorage>\n  bucket-name plone-blobs\n"
        "  cache-dir /nonexistent/cache\n  <zlibstorage>\n    <filestorage>\n      path x\n    </filestorage>\n"
        "  </zlibstorage>\n</s3blobstorage>\n",
    ),
    "instead of a <blobstorage>": (
        "<zodb main>\n  <blobstorage>\n    blob-dir /b\n    <mappingstorage/>\n  </blobstorage>\n</zodb>\n",
        "%import collective.s3blobstorage\n\n<zodb main>\n  <s3blobstorage>\n    bucket-name plone-blobs\n"
        "    cache-dir /nonexistent/cache\n    # blob-dir /b\n    <mappingstorage/>\n  </s3blobstorage>\n</zodb>\n",
    ),
    "an empty section, Windows' line ends, none at the end": (
        "# top\r\n<mappingstorage/>",
        "# top\r\n%import collective.s3blobstorage\r\n<s3blobstorage>\r\n  bucket-name plone-blobs\r\n"
        "  cache-dir /nonexistent/cache\r\n  <mappingstorage/>\r\n</s3blobstorage>\r\n",
    ),
    "the temporary database is left alone": (
        "<zodb_db temporary>\n  <temporarystorage>\n  </temporarystorage>\n</zodb_db>\n"
        "<zodb_db main>\n  <filestorage>\n  </filestorage>\n</zodb_db>\n",
        "<zodb_db temporary>\n  <temporarystorage>\n  </temporarystorage>\n</zodb_db>\n"
        "%import collective.s3blobstorage\n<zodb_db main>\n  <s3blobstorage>\n    bucket-name plone-blobs\n"
        "    cache-dir /nonexistent/cache\n    <filestorage>\n    </filestorage>\n  </s3blobstorage>\n</zodb_db>\n",
    ),
}


@pytest.mark.parametrize("before, after", CASES.values(), ids=CASES)
def test_new_section(before, after):
    result = changed(dedent(before), NEW)
    assert result.text == dedent(after)
    assert changed(result.text, NEW).text == result.text
    assert changed(result.text, {}).text == result.text


WRAPPED = dedent(
    """
    <zodb_db main>
      %import collective.s3blobstorage
      <s3blobstorage>
        # the bucket
        bucket-name    old
        cache-dir /nonexistent/cache
        <filestorage>
          path /tmp/Data.fs
        </filestorage>
        cache-size 1GB
      </s3blobstorage>
    </zodb_db>
    """
)


@pytest.mark.parametrize(
    "values, replaced",
    [
        ({"bucket-name": "new"}, [("bucket-name    old", "bucket-name    new")]),
        ({"bucket-name": "old"}, []),
        ({"cache-size": "$(SIZE)"}, [("cache-size 1GB", "cache-size $(SIZE)")]),
        ({"owner": "site"}, [("/cache\n", "/cache\n    owner site\n")]),
        ({"s3-prefix": ""}, [("/cache\n", "/cache\n    s3-prefix\n")]),
    ],
)
def test_keys_of_a_section_that_is_there(values, replaced):
    expected = WRAPPED
    for old, new in replaced:
        expected = expected.replace(old, new)
    result = changed(WRAPPED, values)
    assert result.text == expected
    assert changed(result.text, values).text == result.text


def test_configuration_of_zodb_s3blobs_becomes_ours():
    sample = (Path(__file__).parents[1] / "storage" / "data" / "zope-instance.conf").read_text(encoding="utf-8")
    result = changed(sample, {})
    assert result.text == sample.replace("%import zodb_s3blobs", "%import collective.s3blobstorage")
    assert result.blob_dirs == ()


@pytest.mark.parametrize(
    "before, after",
    [
        ("%import zodb_s3blobs\n@%import zodb_s3blobs\n", f"{IMPORT}@"),
        (f"{IMPORT}@%import zodb_s3blobs\n", f"{IMPORT}@"),
        (f"{IMPORT}@{IMPORT}", f"{IMPORT}@{IMPORT}"),
        (f"@{IMPORT}", f"{IMPORT}\n@"),
        ("x 1\n\n@", f"x 1\n\n{IMPORT}\n@"),
        ("  %import  zodb_s3blobs\n@", "  %import  collective.s3blobstorage\n@"),
    ],
)
def test_import_stands_once_before_the_first_section(before, after):
    section = "<s3blobstorage>\n  <mappingstorage/>\n</s3blobstorage>\n"
    assert changed(before.replace("@", section), {}).text == after.replace("@", section)


def test_blob_directories_are_reported_with_what_their_names_mean():
    text = "%define A /a\n%define B $A/b\n<zeoclient>\n  blob-dir $B\n  Shared-Blob-Dir YES\n</zeoclient>\n"
    result = changed(text, NEW)
    assert result.blob_dirs == (BlobDir("zeoclient", "$B", True),)
    assert result.defines == {"a": "/a", "b": "$A/b"}
    assert changed(result.text, NEW).blob_dirs == ()


TWO = "<zodb_db a>\n  <filestorage/>\n</zodb_db>\n<zodb_db b>\n  <filestorage/>\n</zodb_db>\n"


def test_one_of_several_databases():
    first = changed(TWO, NEW, "B").text
    assert [place.type for place in document(first).sections[1].sections] == ["s3blobstorage"]
    both = changed(first, NEW, "a").text
    assert both.count("%import") == 1 and both.startswith(IMPORT)
    assert both.count("<s3blobstorage>") == 2
    assert changed(both, {}).text == both
    assert changed(both, {"owner": "x"}, "a").text.index("owner x") < both.index("<zodb_db b>")


@pytest.mark.parametrize(
    "text, values, database, message",
    [
        (TWO, NEW, None, "several storages; choose with --database: a, b"),
        (TWO, NEW, "c", "--database 'c' is not in the file, or not once; it has: a, b"),
        ("x 1\n", NEW, None, "has no storage"),
        ("%include databases.conf\n", NEW, None, "it includes databases.conf: name that file"),
        ("<mappingstorage/>", {}, None, "needs --bucket-name and --cache-dir. Example: --bucket-name plone-blobs"),
        ("<mappingstorage/>", {"bucket-name": "b"}, None, "a new <s3blobstorage> needs --cache-dir. Example"),
        ("<s3blobstorage/>", {"owner": "x"}, None, "line 1: <s3blobstorage/> has no storage inside"),
        ("<zlibstorage>\n<s3blobstorage/>\n</zlibstorage>", {}, None, "inside <zlibstorage>, which would compress"),
        ("<a>\n\n<b>\n</a>\n</b>", NEW, None, "line 4: </a> closes no section"),
        ("\n<a>\n", NEW, None, "line 2: <a> is not closed"),
        ("<a b c>\n", NEW, None, "line 1: the start of a section is malformed"),
        ("(x)\n", NEW, None, "line 1: it is neither a key, a section nor a directive"),
    ],
)
def test_refused(text, values, database, message):
    with pytest.raises(ConfigurationError) as refused:
        changed(text, values, database)
    assert message in str(refused.value)


# Texts that ZConfig reads, with comments, blanks and indentation anywhere

COMMENTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
NOISE = st.lists(
    st.one_of(st.just(""), st.just("   "), COMMENTS.map(lambda text: f"#{text}"), st.just("# </zodb_db>")), max_size=3
)
INNER = {
    "filestorage": ["path /tmp/Data.fs", "pack-keep-old false", "blob-dir /tmp/blobs"],
    "zeoclient": ["server 127.0.0.1:9", "blob-dir /tmp/blobs", "shared-blob-dir on", "blob-cache-size 1GB"],
    "mappingstorage": ["name x"],
}


@st.composite
def configurations(draw):
    """(text, the numbers of the lines of the storage, its type)."""
    lines: list[str] = []

    def put(line: str) -> None:
        for noise in draw(NOISE):
            lines.append(noise)
        lines.append(draw(st.sampled_from(["", " ", "    ", "\t"])) + line + draw(st.sampled_from(["", " "])))

    for define in draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True)):
        put(f"%define {define} value of {define}")
    wrapper = draw(st.sampled_from([None, "zodb_db main", "zodb main"]))
    if draw(st.booleans()):
        put("%import zc.zlibstorage")
    compressed = "%import zc.zlibstorage" in " ".join(lines) and draw(st.booleans())
    if wrapper:
        put(f"<{wrapper}>")
        if wrapper.startswith("zodb_db"):
            put("mount-point /")
    kind = draw(st.sampled_from(sorted(INNER)))
    for noise in draw(NOISE):
        lines.append(noise)
    start = len(lines)
    lines.append("<zlibstorage>" if compressed else f"<{kind}>")
    if compressed:
        put(f"<{kind}>")
    for key in draw(st.permutations(INNER[kind])):
        put(key)
    put(f"</{kind}>")
    if compressed:
        put("</zlibstorage>")
    storage = range(start, len(lines))
    if wrapper:
        put(f"</{wrapper.split()[0]}>")
    lines += draw(NOISE)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    return text, storage, "zlibstorage" if compressed else kind


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(line in rest for line in part)


@given(configurations(), st.sampled_from(["plone-blobs", "other-bucket"]))
def test_any_text_keeps_its_lines_and_gets_the_section(drawn, bucket):
    text, storage, kind = drawn
    values = {"owner": "www.example.org", "bucket-name": bucket, "cache-dir": "/nonexistent/cache"}
    result = changed(text, values)
    assert changed(result.text, values).text == result.text
    assert changed(result.text, {}).text == result.text

    [database], unset = parse_text(result.text, Path("/nonexistent/zope.conf"))
    assert (database.settings.store.bucket, database.settings.owner) == (bucket, "www.example.org")
    assert (database.base_type, unset) == (kind, set())

    before, after = text.split("\n"), result.text.split("\n")
    outside = [line.rstrip("\r") for number, line in enumerate(before) if number not in storage]
    assert is_subsequence(outside, [line.rstrip("\r") for line in after])
    stripped = [line.strip().removeprefix("# ") for line in after]
    assert is_subsequence([line.strip().removeprefix("# ") for line in before if line.strip()], stripped)
    added = 6  # %import, start, three keys, end
    assert len(result.text.split()) > len(text.split())
    assert len([line for line in after if line.strip()]) == len([line for line in before if line.strip()]) + added

    renamed = changed(result.text, {"owner": "staging"}).text
    assert renamed == result.text.replace("owner www.example.org", "owner staging")


def test_blob_keys_stay_where_a_source_reads_the_blobs_of_the_storage_inside():
    text = dedent(
        """
        %import collective.s3blobstorage
        <s3blobstorage>
          bucket-name plone-blobs
          cache-dir /nonexistent/cache
          <s3source production>
            bucket-name other
            s3-prefix old
          </s3source>
          <basesource>
          </basesource>
          <zeoclient>
            server localhost:8100
            blob-dir /nonexistent/zeo
          </zeoclient>
        </s3blobstorage>
        """
    )
    assert changed(text, {}).text == text
    again = changed(text, {"bucket-name": "new", "s3-prefix": "a"}).text
    assert again == text.replace("plone-blobs", "new").replace(
        "  cache-dir /nonexistent/cache\n", "  cache-dir /nonexistent/cache\n  s3-prefix a\n"
    )
    without = changed(text.replace("basesource", "blobdirsource"), {})
    assert "# blob-dir /nonexistent/zeo" in without.text
    assert without.blob_dirs == (BlobDir("zeoclient", "/nonexistent/zeo", False),)


PLAIN = """\
<zodb_db main>
  <filestorage>
    path $HOME/Data.fs
    blob-dir $HOME/blobs
  </filestorage>
</zodb_db>
"""
STAYING = """
<zodb_db main>
  <s3blobstorage>
    bucket-name plone-blobs
    cache-dir /nonexistent/cache{keep}
    <blobdirsource>
      path $HOME/blobs
    </blobdirsource>
    <filestorage>
      path $HOME/Data.fs
      {comment}blob-dir $HOME/blobs
    </filestorage>
  </s3blobstorage>
</zodb_db>
"""
KEPT = "\n    keep-in-base on"


def test_blobs_that_stay_get_a_source():
    result = changed(PLAIN, NEW, blobs_stay=True)
    assert result.text == IMPORT + STAYING.format(keep="", comment="# ")
    assert result.blob_dirs == ()
    assert changed(result.text, NEW, blobs_stay=True).text == result.text


def test_keep_in_base_keeps_the_blob_dir_in_the_storage_inside():
    keeping = NEW | {"keep-in-base": "on"}
    result = changed(PLAIN, keeping, blobs_stay=True)
    assert result == changed(result.text, {"bucket-name": "plone-blobs"})
    assert result.text == IMPORT + STAYING.format(keep=KEPT, comment="")
    # Without a source what is in the folder would be out of reach all the same.
    assert changed(PLAIN, keeping).blob_dirs == (BlobDir("filestorage", "$HOME/blobs", False),)
    # The source reads the folder on, when the storage inside does not keep it any more.
    off = changed(result.text, {"keep-in-base": "off"})
    assert (off.text, off.blob_dirs) == (
        IMPORT + STAYING.format(keep="\n    keep-in-base off", comment="# "),
        (),
    )
    bare = result.text.replace("    <blobdirsource>\n      path $HOME/blobs\n    </blobdirsource>\n", "")
    assert changed(bare, {"keep-in-base": "off"}).blob_dirs == (BlobDir("filestorage", "$HOME/blobs", False),)
    assert changed(bare, {}, blobs_stay=True).text == result.text


@pytest.mark.parametrize("inner, shared", [("zeoclient", ""), ("zeoclient", "on"), ("relstorage", "off")])
def test_blobs_that_stay_at_a_server_or_in_a_database(inner, shared):
    more = f"  shared-blob-dir {shared}\n" if shared else ""
    text = f"<{inner}>\n  blob-dir /b\n{more}</{inner}>\n"
    result = changed(text, NEW, blobs_stay=True)
    assert ("  <basesource>\n  </basesource>\n" in result.text) is (shared != "on")
    assert ("  <blobdirsource>\n    path /b\n  </blobdirsource>\n" in result.text) is (shared == "on")
    assert ("# blob-dir" in result.text) is (shared == "on")
    assert result.blob_dirs == ()
    assert changed(result.text, {}, blobs_stay=True).text == result.text


def test_a_blobstorage_stays_one_where_it_keeps_the_blobs():
    text = "<blobstorage>\n  blob-dir /b\n  <mappingstorage/>\n</blobstorage>\n"
    kept = changed(text, NEW | {"keep-in-base": "on"}, blobs_stay=True)
    assert "\n  <blobstorage>\n    blob-dir /b\n    <mappingstorage/>\n  </blobstorage>\n" in kept.text
    without = changed(text, NEW, blobs_stay=True)
    assert "<blobstorage>" not in without.text and "# blob-dir /b" in without.text
    for result in (kept, without):
        assert "  <blobdirsource>\n    path /b\n  </blobdirsource>\n" in result.text
        assert changed(result.text, {}, blobs_stay=True).text == result.text


def test_blobs_cannot_stay_where_there_is_no_folder():
    with pytest.raises(ConfigurationError, match="no blob-dir that could become a source"):
        changed("<filestorage>\n  path /d\n</filestorage>\n", NEW, blobs_stay=True)
