"""``frontend/`` as whoever builds it has it, in a folder of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

FRONTEND = Path(__file__).parents[1] / "frontend"
STATIC = FRONTEND.parent / "src" / "collective" / "s3blobstorage" / "uploader" / "static"


def digest_of_sources() -> str:
    """As ``frontend/build.mjs`` writes it into the first line of what it builds."""
    names = [path.relative_to(FRONTEND).as_posix() for path in (FRONTEND / "src").rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for name in sorted([*names, "build.mjs", "package-lock.json", "package.json"]):
        content = (FRONTEND / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def install(folder: Path) -> Path:
    """Sources and packages, in ``folder / "frontend"``. Skips where there is no node, no npm, or no registry."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: the uploader cannot be built")
    copy = folder / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=copy, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not install what the uploader is built of: {(error.stderr or b'')[-300:]!r}")
    return copy


def built(frontend: Path, target: Path) -> dict[str, bytes]:
    """What ``build.mjs`` makes there, by name."""
    subprocess.run(["node", "build.mjs", target], cwd=frontend, check=True, capture_output=True, timeout=60)
    return files_of(target)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def bundle(frontend: Path, script: str) -> bytes:
    """A script for a page of tests, which imports from ``./src``."""
    (frontend / "tested.js").write_text(script)
    command = ["node_modules/.bin/esbuild", "tested.js", "--bundle", "--format=iife"]
    return subprocess.run(command, cwd=frontend, check=True, capture_output=True, timeout=60).stdout
