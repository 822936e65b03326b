"""The browser layer of the sites that have the add-on installed."""

from zope.publisher.interfaces.browser import IDefaultBrowserLayer


class IS3BlobStorageLayer(IDefaultBrowserLayer):
    """On every request to a site whose ``default`` profile is applied."""
