"""Ours among plone.restapi's panels."""

from plone.restapi.controlpanels.interfaces import IControlpanel


class IDeliveryPanel(IControlpanel):
    """The site's policy of delivery."""
