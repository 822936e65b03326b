"""The examples of docs/direct-upload.md, with the Uppy that they import, as one script for a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "uppy"
DOCS = Path(__file__).parents[3] / "docs" / "direct-upload.md"


def bundle(folder: Path) -> Path:
    """Made in that folder: ``window.examples`` has what the examples export. Skips where it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: Uppy cannot be installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not install Uppy: {(error.stderr or b'')[-300:]!r}")
    examples = re.findall(r"^```js\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    (folder / "examples.js").write_text("\n".join(examples))
    (folder / "page.js").write_text("import * as examples from './examples.js'\nwindow.examples = examples\n")
    command = [folder / "node_modules" / ".bin" / "esbuild", "page.js", "--bundle", "--outfile=bundle.js"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "bundle.js"
