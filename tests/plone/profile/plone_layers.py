"""plone.app.testing layers with the add-on's ZCML and profile."""

from __future__ import annotations

from plone.app.testing import PLONE_FIXTURE, FunctionalTesting, IntegrationTesting, PloneSandboxLayer

import collective.s3blobstorage


class AddOnLayer(PloneSandboxLayer):
    """A Plone site where the add-on's profile is applied."""

    defaultBases = (PLONE_FIXTURE,)

    def setUpZope(self, app, configurationContext):
        # plone.app.testing turns autoinclude off: test_autoinclude.py and tests/plone/site show that it finds us.
        self.loadZCML(package=collective.s3blobstorage)

    def setUpPloneSite(self, portal):
        self.applyProfile(portal, "collective.s3blobstorage:default")


ADD_ON = AddOnLayer()
INTEGRATION = IntegrationTesting(bases=(ADD_ON,), name="collective.s3blobstorage:Integration")
FUNCTIONAL = FunctionalTesting(bases=(ADD_ON,), name="collective.s3blobstorage:Functional")
