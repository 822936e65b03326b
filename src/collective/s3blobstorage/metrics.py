"""``@@s3blobstorage-metrics``: what this process counted, for Prometheus.

A plain view at the application root. plone.rest takes over a request whose ``Accept`` names a type that it knows, which
Prometheus' does not; a service would answer it with 404.
"""

from AccessControl import getSecurityManager
from Products.Five.browser import BrowserView
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from zope.component import getUtility

from .interfaces import IBlobStorages
from .permissions import OPERATE

# Names are plain, so this older form says all, to every release of Prometheus.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "s3blobstorage_"

_CACHE = {
    "hits": "Reads that the local cache answered",
    "misses": "Reads that the local cache could not answer",
    "downloads": "Downloads of whole blobs into the cache that were begun",
    "parts": "Parts of large blobs that were downloaded",
    "waits": "Reads that waited for a download of another thread",
    "bytes": "Bytes that were downloaded into the cache, or taken over from a commit",
    "evictions": "Files that were removed from the cache for its bound or for its disk",
    "errors": "Operations of the cache's own disk that failed",
}


class Metrics(BrowserView):
    """200 with the figures of the databases that may be seen: all for whoever has the permission *Operate* at the
    application root, else those whose ``metrics-token-file`` holds the token of the request.

    401 without either, 403 for a user who has no such permission. Makes no request to a store. In the thread of the
    request.
    """

    def __init__(self, context, request):
        super().__init__(context, request)
        # Here, before Zope looks who it is: plone.restapi's plugin in the root's acl_users takes every Bearer for a
        # token of its own, and ends in an error, since a site's utility is missing at the root (verified with
        # plone.restapi 10.0.4).
        scheme, _, token = (request._auth or "").partition(" ")
        self._token = ""
        if scheme.lower() == "bearer":
            request._auth = None
            self._token = token.strip()

    def __call__(self):
        """Answer GET."""
        response = self.request.response
        response.setHeader("Cache-Control", "no-store")
        shown = self._shown()
        if shown is None:
            return self._refuse(response)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Figures(shown))
        response.setHeader("Content-Type", CONTENT_TYPE)
        return generate_latest(registry)

    def _shown(self):
        """(name, status) pairs; None where nothing may be seen."""
        found = [(name, blobs) for name, blobs in getUtility(IBlobStorages).all() if blobs.available]
        if not getSecurityManager().checkPermission(OPERATE, self.context):
            # Each is asked, so that the time does not tell whose it is.
            found = [pair for pair in found if self._token and pair[1].admits_to_metrics(self._token)]
            if not found:
                return None
        return [(name, blobs.status()) for name, blobs in found]

    def _refuse(self, response):
        anonymous = getSecurityManager().getUser().getId() is None
        response.setStatus(401 if anonymous else 403)
        if anonymous:
            response.setHeader("WWW-Authenticate", 'Bearer realm="Zope", Basic realm="Zope"')
        response.setHeader("Content-Type", "text/plain; charset=utf-8")
        return (
            'metrics are for those who have "collective.s3blobstorage: Operate" at the application root, or the token '
            "in the metrics-token-file of zope.conf\n"
        )


class _Figures:
    """A collector of prometheus_client's. Labels never hold a bucket, a key, a path or a user."""

    def __init__(self, shown):
        self._figures = [(name, status.counters()) for name, status in shown]

    def collect(self):
        for name, text in _CACHE.items():
            yield self._family(CounterMetricFamily, f"cache_{name}", text, lambda told, name=name: told["cache"][name])
        gauges = {
            "cache_used_bytes": ("Bytes in cache-dir, of all databases that share it, about", "used"),
            "cache_bound_bytes": ("cache-size", "bound"),
            "store_reachable": (
                "Whether the bucket answered the last request, or there was none",
                "reachable",
            ),
            "circuit_open": ("Whether reads fail at once, since the bucket has been away for too long", "circuit_open"),
            "uploads_in_progress": ("Blobs of commits that are being sent, or wait for that", "uploads"),
        }
        for name, (text, value) in gauges.items():
            yield self._family(GaugeMetricFamily, name, text, lambda told, value=value: told[value])
        yield self._by("jobs_running", GaugeMetricFamily, "Jobs that this process runs", ("kind",), _jobs)
        yield self._by("requests", CounterMetricFamily, "Requests to the bucket, each attempt", ("verb",), _requests)
        yield self._by("request_errors", CounterMetricFamily, "Requests that failed", ("verb", "kind"), _errors)
        yield self._by(
            "request_data_bytes", CounterMetricFamily, "Bytes of objects, received by get and sent by put", ("verb",),
            _bytes,
        )  # fmt: skip
        yield self._durations()

    def _family(self, kind, name, text, value):
        family = kind(_PREFIX + name, text, labels=("database",))
        for database, told in self._figures:
            family.add_metric((database,), value(told))
        return family

    def _by(self, name, kind, text, labels, values):
        family = kind(_PREFIX + name, text, labels=("database", *labels))
        for database, told in self._figures:
            for more, value in values(told):
                family.add_metric((database, *more), value)
        return family

    def _durations(self):
        family = HistogramMetricFamily(
            f"{_PREFIX}request_duration_seconds", "Until the answer of a request began", labels=("database", "verb")
        )
        for database, told in self._figures:
            for verb, counted in told["requests"].items():
                passed, buckets = 0, []
                for bound in sorted(counted.within):
                    passed += counted.within[bound]
                    buckets.append((f"{bound:g}" if bound % 1 else f"{bound:.1f}", passed))
                buckets.append(("+Inf", counted.requests))
                family.add_metric((database, verb), buckets, counted.seconds)
        return family


def _jobs(told):
    return [((kind,), count) for kind, count in told["jobs"].items()]


def _requests(told):
    return [((verb,), counted.requests) for verb, counted in told["requests"].items()]


def _errors(told):
    return [
        ((verb, kind), count) for verb, counted in told["requests"].items() for kind, count in counted.errors.items()
    ]


def _bytes(told):
    return [((verb,), told["requests"][verb].bytes) for verb in ("get", "put")]
