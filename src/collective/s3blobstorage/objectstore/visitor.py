"""Requests as a visitor's browser makes them, by a signed URL and without credentials; for trying such URLs out."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from collective.s3blobstorage.objectstore import client
from collective.s3blobstorage.settings import StoreSettings


def fetch(
    settings: StoreSettings, method: str, url: str, data: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, str]:
    """(status, body, kind of the error); the status is 0 where there was no answer. One request, redirects are not
    followed. Raises nothing of the network. In the caller's thread."""
    timeouts = (settings.download_connect_timeout, settings.download_read_timeout)
    session = URLLib3Session(verify=client.authorities(settings), timeout=timeouts)
    try:
        answer = session.send(AWSRequest(method=method, url=url, data=data, headers=dict(headers or {})).prepare())
        return answer.status_code, answer.content, ""
    except BotoCoreError as error:
        return 0, b"", type(error).__name__  # its text has the URL and so the signature
    finally:
        session.close()
