"""Steps that bring what a release adds to the sites that have the add-on already."""
