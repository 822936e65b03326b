"""Lists the objects in the demo's bucket while the demo runs: ``objects.py [FOLDER OF THE DEMO]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError


def main(var: Path) -> int:
    reach = var / "etc" / "bucket.json"
    if not reach.exists():
        print(f"There is no demo in {var}: start one with `python3 run.py demo`.", file=sys.stderr)
        return 1
    known = json.loads(reach.read_text())
    bucket = known.pop("bucket")
    client = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}), **known)
    count = total = 0
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                print(f"{found['LastModified']:%Y-%m-%d %H:%M:%S} {found['Size']:>12,}  {found['Key']}")
                count, total = count + 1, total + found["Size"]
    except EndpointConnectionError:
        print("The demo does not run: start it with `python3 run.py demo`.", file=sys.stderr)
        return 1
    finally:
        client.close()
    print(f"{count} objects, {total:,} bytes in {bucket}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parents[1] / "var" / "demo"))
