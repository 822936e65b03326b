"""plone.restapi endpoints, a folder each, for sites that have the add-on."""
