"""Work on a whole database and its bucket: plan, execute, report. Imports neither Zope nor Plone."""
