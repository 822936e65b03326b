"""docs/operations.md, "The first check"."""


def test_the_first_check(site):
    follow = site.follow("The first check")
    with site.running():
        site.upload("first")
        site.assert_files_are_right()
    follow.run()
    follow.end()
