"""Writes ``data/zodb-s3blobs-1.2.1``: a database and a bucket as zodb-s3blobs 1.2.1 leaves them. Needs Python 3.12.

Run by hand with zodb-s3blobs 1.2.1 installed, an S3 server and an empty bucket; what it wrote is in the repository::

    python make_zodb_s3blobs_bucket.py ENDPOINT ACCESS-KEY SECRET-KEY BUCKET

The database has a blob with three revisions, one undone transaction, an empty blob and one that a conflict aborted.
"""

import json
import sys
import tempfile
from pathlib import Path

import boto3
import transaction
import ZODB.config
from ZODB.blob import Blob

HERE = Path(__file__).parent / "data" / "zodb-s3blobs-1.2.1"

CONFIGURATION = """\
%import zodb_s3blobs
<zodb>
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix a/site
    s3-endpoint-url {endpoint}
    s3-region us-east-1
    s3-access-key {access_key}
    s3-secret-key {secret_key}
    s3-use-ssl false
    s3-addressing-style path
    s3-connect-timeout 60
    s3-read-timeout 300
    s3-download-connect-timeout 5
    s3-download-read-timeout 10
    s3-download-max-attempts 2
    cache-dir {folder}/cache
    cache-size 10MB
    <filestorage>
      path {folder}/Data.fs
    </filestorage>
  </s3blobstorage>
</zodb>
"""


def main(endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
    folder = tempfile.mkdtemp()
    values = {
        "endpoint": endpoint, "access_key": access_key, "secret_key": secret_key, "bucket": bucket, "folder": folder,
    }  # fmt: skip
    db = ZODB.config.databaseFromString(CONFIGURATION.format(**values))
    connection = db.open()
    root = connection.root()
    root["empty"] = Blob()
    root["large"] = Blob(bytes(range(256)) * 80)
    root["changed"] = Blob(b"first")
    transaction.commit()
    for number in range(20):  # oids with more than one digit
        root[f"blob{number:02}"] = Blob(f"blob {number}".encode())
    transaction.commit()
    for data in (b"second", b"third"):
        with root["changed"].open("w") as file:
            file.write(data)
        transaction.commit()
    expected = {name: blob.open("r").read().hex() for name, blob in root.items()}
    db.close()
    HERE.mkdir(parents=True, exist_ok=True)
    (HERE / "Data.fs").write_bytes(Path(folder, "Data.fs").read_bytes())
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )  # fmt: skip
    objects = {}
    for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
        objects[found["Key"]] = client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read().hex()
    (HERE / "bucket.json").write_text(json.dumps(objects, indent=0))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
