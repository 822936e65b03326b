"""Requests as a visitor's browser makes them, by a signed URL and without credentials; for trying such URLs out."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from collective.s3blobstorage.objectstore import client
from collective.s3blobstorage.settings import StoreSettings


def fetch(
    settings: StoreSettings, method: str, url: str, data: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, str]:
    """(status, body, kind of the error); the status is 0 where there was no answer. One request, redirects are not
    followed. Raises nothing of the network. In the caller's thread."""
    answer, trouble = _sent(settings, method, url, data, headers or {})
    return (answer.status_code, answer.content, "") if answer is not None else (0, b"", trouble)


def asked(
    settings: StoreSettings, method: str, url: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], str]:
    """The same with the answer's headers, named in lower case, in place of the body."""
    answer, trouble = _sent(settings, method, url, b"", headers)
    if answer is None:
        return 0, {}, trouble
    return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, ""


def _sent(
    settings: StoreSettings, method: str, url: str, data: bytes, headers: Mapping[str, str]
) -> tuple[AWSResponse | None, str]:
    timeouts = (settings.download_connect_timeout, settings.download_read_timeout)
    session = URLLib3Session(verify=client.authorities(settings), timeout=timeouts)
    try:
        request = AWSRequest(method=method, url=url, data=data, headers=dict(headers)).prepare()
        return session.send(request), ""
    except BotoCoreError as error:
        return None, type(error).__name__  # its text has the URL and so the signature
    finally:
        session.close()
