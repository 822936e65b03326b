"""Direct upload on Plone's side: from an announced file to content, in one transaction."""
