"""An older release of this package, out of the history of its repository: there is none that was published."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
METADATA = "profiles/default/metadata.xml"


def commit_of_profile_1000() -> str | None:
    """The last commit whose profile has its first version, 1000; None where the checkout has no such history."""
    listed = _git("log", "--format=%H", "--reverse", "--", METADATA)
    changes = listed.decode().split() if listed is not None else []
    if len(changes) < 2 or _git("cat-file", "-e", f"{changes[1]}^") is None:
        return None
    text = _git("show", f"{changes[1]}^:{METADATA}")
    return f"{changes[1]}^" if text is not None and b"<version>1000</version>" in text else None


def installed(commit: str, folder: Path) -> Path:
    """Its wheel, built of that commit alone, as ``pip install --no-deps --target`` leaves it: where it is first on
    ``PYTHONPATH`` it is the one that runs, with the packages that the tests have."""
    archive = _git("archive", commit)
    assert archive is not None
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder / "source", filter="data")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "wheel"],
        cwd=folder / "source", check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = (folder / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "lib")
    return folder / "lib"


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
