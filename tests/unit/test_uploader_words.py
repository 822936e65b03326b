"""What the script says and what ``uploader/words.py`` has are the same: by the sources of both."""

from __future__ import annotations

import ast
import re

from frontend_build import FRONTEND

WORDS = FRONTEND.parent / "src" / "collective" / "s3blobstorage" / "uploader" / "words.py"
NAME = re.compile(r"(?<!=== )'([a-z-]+)'")  # not what is compared
# `say('name', …)`, `say(condition ? 'one' : 'other')`; `new Failure('name')`, whose kind is its text where no other is
# named; `words: 'name'`, `failure.words = 'name'`; `export const NAME = 'name'`, of choices that are said.
SAYS = re.compile(
    r"\bsay\(([^,){]*)|\bwords(?::| =(?!=)) ([^,};\n]*)|new Failure\(([^,)]*)(?=\)|, (?:more|\{ status)\b)"
    r"|^export const [A-Z_]+ = ('[a-z-]+')$",
    re.MULTILINE,
)


def texts() -> dict[str, str]:
    """Name and text of each."""
    words = next(
        node.value
        for node in ast.parse(WORDS.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "WORDS"
    )
    return {key.value: call.args[0].value for key, call in zip(words.keys, words.values, strict=True)}


def said() -> dict[str, str]:
    """Name and file of each that the script says."""
    return {
        name: path.name
        for path in sorted((FRONTEND / "src").glob("*.js"))
        for groups in SAYS.findall(path.read_text())
        for name in NAME.findall("".join(groups))
    }


def test_all_that_is_said_has_a_text():
    assert {name: path for name, path in said().items() if name not in texts()} == {}


def test_each_text_is_said():
    assert set(texts()) - set(said()) == set()
