"""Clients whose requests are counted: all that a store sends goes through one of these.

boto3's clients are shared by all stores of the process that are reached in the same way, so each store counts at its
own door. One call is one request: botocore makes one attempt (``client.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from collective.s3blobstorage.errors import Corrupt, ObjectMissing, PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore.traffic import Traffic
from collective.s3blobstorage.objectstore.translate import Unproven, failure_of

_VERBS = {
    "get_object": "get",
    "head_object": "head",
    "head_bucket": "head",
    "put_object": "put",
    "upload_part": "put",
    "list_objects_v2": "list",
    "list_object_versions": "list",
    "list_multipart_uploads": "list",
    "list_parts": "list",
    "delete_object": "delete",
    "delete_objects": "delete",
    "copy_object": "copy",
    "upload_part_copy": "copy",
}
_NO_STORE = ("", "404", "NoSuchBucket")


class CountedClient:
    """A client of boto3's, or a ``SignedRequests``, as ``client`` is: every attribute is that one's, and what makes a
    request counts it. From any thread.

    ``refusals``: whether a refusal is an error. It is none where whoever asks does not know yet how an object is
    encrypted, and tries one key after the other.
    """

    def __init__(self, client: Any, traffic: Traffic, *, refusals: bool = True) -> None:
        self._client = client
        self._traffic = traffic
        self._refusals = refusals

    def expecting_refusals(self) -> CountedClient:
        return CountedClient(self._client, self._traffic, refusals=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_client":
            raise AttributeError(name)
        found = getattr(self._client, name)
        verb = self._verb(name)
        if verb is None:
            return found
        counting = self._counting(verb, found)
        vars(self)[name] = counting  # found there from now on
        return counting

    def _verb(self, name: str) -> str | None:
        verb = _VERBS.get(name)
        if verb is None and name in getattr(getattr(self._client, "meta", None), "method_to_api_mapping", ()):
            return "other"
        return verb

    def _counting(self, verb: str, request: Callable[..., Any]) -> Callable[..., Any]:
        traffic = self._traffic

        def counted(**parameters: Any) -> Any:
            began = time.perf_counter()
            try:
                response = request(**parameters)
            except Exception as error:
                traffic.answered(verb, time.perf_counter() - began)
                # botocore wraps what a body raises as if the connection had failed: an upload that was cancelled, a
                # file that cannot be read.
                if getattr(parameters.get("Body"), "stopped", None) is None:
                    self._failed(verb, error, tried=verb == "put" and "ContentMD5" not in parameters)
                raise
            body = parameters.get("Body") if verb == "put" else None
            traffic.answered(verb, time.perf_counter() - began, 0 if body is None else len(body))
            return response

        return counted

    def _failed(self, verb: str, error: Exception, *, tried: bool) -> None:
        """``tried``: a body without Content-MD5, which is sent again with it where that is refused (``Proof``)."""
        failure = failure_of(error)
        if failure is None:
            return  # what is wrong is not between here and the store: a commit that was aborted, say
        # Nothing there, by whatever name; 416: nothing there from that byte on. A bare 404 of a request that has a body
        # comes from something that is no store.
        if failure.status == 416 or (failure.status == 404 and (verb == "head" or failure.code not in _NO_STORE)):
            return
        kind = kind_of(failure.error)
        if kind is None or (kind == "refused" and (not self._refusals or (tried and failure.status == 400))):
            return
        self._traffic.failed(verb, kind)


class Comparing:
    """Around what compares bytes with those that were sent or stored: where they differ, a request that went well came
    to nothing all the same. No generator, which would cost as much as all the rest of counting."""

    __slots__ = ("_traffic", "_verb")

    def __init__(self, traffic: Traffic, verb: str) -> None:
        self._traffic = traffic
        self._verb = verb

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Corrupt) or (isinstance(error, Unproven) and error.differs):
            self._traffic.failed(self._verb, "other")


def kind_of(error: Exception) -> str | None:
    """Which of ``traffic.ERRORS`` it is. None where it is none: a key that is not there, or is there already, is an
    answer."""
    if isinstance(error, (ObjectMissing, PreconditionFailed)):
        return None
    if isinstance(error, Unavailable):
        return "unavailable"
    return "refused" if isinstance(error, Refused) else "other"
