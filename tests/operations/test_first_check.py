"""docs/operations.md, "The first check"."""

from panel_forms import Panel, text_of
from plain_site import in_plone_site


def test_the_first_check(site):
    follow = site.follow("The first check")
    with site.running():
        follow.run()
        follow.run()
        site.upload("first")
        site.assert_files_are_right()
        panel = Panel(in_plone_site(site))
        assert "It works." in text_of(panel.post("try", {"action": "try"}))
        for _ in range(4):
            follow.run()
    follow.end()
