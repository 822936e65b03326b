"""How a Plone site's files reach browsers: ``@@download``, ``@@display-file`` and ``@@images`` where the add-on is.

plone.namedfile decides who may have what, under which type and name. ``policy.py`` decides which way the bytes go.
"""
