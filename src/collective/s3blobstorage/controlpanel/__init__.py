"""Site Setup's pages of the add-on in Plone's classic UI."""
