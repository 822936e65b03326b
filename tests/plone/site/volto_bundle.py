"""The files of docs/volto.md with React as one script for a browser, on a page that has what Volto gives them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "volto"
DOCS = Path(__file__).parents[3] / "docs" / "volto.md"
NAMES = ["components/BlobUpload/blobUpload.js", "components/BlobUpload/BlobUploader.jsx", "index.js"]
# The router's part and the store's, as Volto has them: the route that matches, and `userSession.token`.
PAGE = """\
import React from 'react'
import { createRoot } from 'react-dom/client'
import { Provider } from 'react-redux'
import { legacy_createStore as createStore } from 'redux'
import applyConfig from './src/index.js'

const store = createStore((state = { userSession: { token: null } }, action) =>
  action.type === 'LOGIN' ? { userSession: { token: action.token } } : state)
const config = applyConfig({ settings: { nonContentRoutes: [] }, addonRoutes: [] })
const Page = config.addonRoutes[0].component
window.login = (token) => store.dispatch({ type: 'LOGIN', token })
const content = !config.settings.nonContentRoutes[0].test(location.pathname)
window.config = { path: config.addonRoutes[0].path, content }
createRoot(document.querySelector('main')).render(<Provider store={store}><Page location={location} /></Provider>)
"""


def bundle(folder: Path) -> bytes:
    """Made in that folder. Skips where node or React cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: React cannot be installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not install React: {(error.stderr or b'')[-300:]!r}")
    text = DOCS.read_text()
    examples = re.findall(r"^```jsx?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(examples) == len(NAMES)
    for name, example in zip(NAMES, examples, strict=True):
        assert f"`src/{name}`" in text
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example)
    (folder / "page.jsx").write_text(PAGE)
    command = [
        folder / "node_modules" / ".bin" / "esbuild", "page.jsx", "--bundle", "--outfile=bundle.js", "--loader:.js=jsx",
        '--define:process.env.NODE_ENV="production"',
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return (folder / "bundle.js").read_bytes()
