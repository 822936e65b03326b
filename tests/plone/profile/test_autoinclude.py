"""Plone finds the add-on by itself: no slug in zope.conf, no ZCML of the site's own."""

from __future__ import annotations

from importlib.metadata import distribution

from plone.autoinclude.loader import load_packages


def test_entry_point_names_plone(package_name):
    points = distribution(package_name).entry_points.select(group="plone.autoinclude.plugin")
    assert [(point.name, point.value) for point in points] == [("target", "plone")]


def test_plone_loads_the_package(package_name):
    assert package_name in load_packages(target="plone")
