"""The command `s3blobs` as a process of its own, and files of configuration for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rings import section_of, variables_of

from collective.s3blobstorage.settings import StoreSettings

SCRIPT = Path(sys.executable).with_name("s3blobs")


def environment(**more: str) -> dict[str, str]:
    """The environment without what would choose credentials, an endpoint, or colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3BLOBS_CONFIG"))}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", **more}


def s3blobs(*arguments: Any, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed console script to its end."""
    return subprocess.run(
        [SCRIPT, *map(str, arguments)], env=env or environment(), capture_output=True, text=True, timeout=120, **options
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The only line on standard error, after it was checked that it is no traceback."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("s3blobs: ")
    return lines[0]


def document(result: subprocess.CompletedProcess[str]) -> Any:
    """Standard output as the JSON document that it must be, whole."""
    return json.loads(result.stdout)


def section(store: StoreSettings, cache_dir: Path, base: str, *more: str, name: str = "") -> str:
    """A `<s3blobstorage>` section with the keys of ``store`` in variables, as an operator has them."""
    lines = [
        f"bucket-name {store.bucket}",
        f"s3-prefix {store.prefix}",
        f"s3-endpoint-url {store.endpoint_url}",
        f"s3-region {store.region}",
        *([f"s3-ca-bundle {store.ca_bundle}"] if store.ca_bundle else []),
        "s3-access-key $(SITE_ACCESS_KEY)",
        "s3-secret-key $(SITE_SECRET_KEY)",
        f"cache-dir {cache_dir}",
        *([section_of(store.encryption)] if store.encryption else []),
        *more,
        base,
    ]
    inner = "\n".join(f"  {line}" for line in "\n".join(lines).splitlines())
    return f"<s3blobstorage {name}>\n{inner}\n</s3blobstorage>\n".replace(" >", ">")


def variables(store: StoreSettings) -> dict[str, str]:
    """Those that `section` reads."""
    keys = variables_of(store.encryption) if store.encryption else {}
    return {"SITE_ACCESS_KEY": store.access_key, "SITE_SECRET_KEY": store.secret_key, **keys}


def keys_of(store: StoreSettings) -> dict[str, str]:
    """The environment with the variables that `section` reads."""
    return environment(**variables(store))
