"""The GenericSetup profiles: installed, upgraded, uninstalled without a trace."""

from __future__ import annotations

import io
import re
import tarfile

import pytest
from plone.app.testing import TEST_USER_ID, setRoles
from plone.base.interfaces import INonInstallable
from plone.browserlayer.interfaces import ILocalBrowserLayerType
from Products.GenericSetup import EXTENSION, profile_registry
from zope.component import getAllUtilitiesRegisteredFor, getMultiAdapter, getSiteManager
from zope.component.hooks import getSite
from zope.configuration import xmlconfig

import collective.s3blobstorage
from collective.s3blobstorage.layer import IS3BlobStorageLayer

PACKAGE = "collective.s3blobstorage"


def hidden(what: str) -> set[str]:
    found: set[str] = set()
    for utility in getAllUtilitiesRegisteredFor(INonInstallable):
        if hasattr(utility, what):
            found.update(getattr(utility, what)())
    return found


def exported(setup_tool) -> dict[str, bytes]:
    """Everything that GenericSetup can export of the site, by file name."""
    setRoles(getSite(), TEST_USER_ID, ["Manager"])
    with tarfile.open(fileobj=io.BytesIO(setup_tool.runAllExportSteps()["tarball"])) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    # The default of one of Plone's registry fields is the time at which it is asked for.
    return {name: re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", b"now", content) for name, content in files.items()}


class TestInstalled:
    def test_is_installed(self, installer):
        assert installer.is_product_installed(PACKAGE) is True

    def test_version_in_site_is_version_of_profile(self, profile_last_version, setup_tool):
        assert profile_last_version(f"{PACKAGE}:default") == "1000"
        assert setup_tool.getVersionForProfile(f"{PACKAGE}:default") == "1000"

    def test_nothing_to_upgrade_on_a_fresh_site(self, setup_tool):
        assert setup_tool.listUpgrades(f"{PACKAGE}:default") == []

    def test_browser_layer(self, browser_layers):
        assert IS3BlobStorageLayer in browser_layers

    def test_add_on_panel_lists_the_product_once_and_nothing_more_to_install(self, portal, http_request):
        setRoles(portal, TEST_USER_ID, ["Manager"])
        panel = getMultiAdapter((portal, http_request), name="prefs_install_products_form")
        assert [product["id"] for product in panel.get_installed()].count(PACKAGE) == 1
        assert not [product for product in panel.get_available() if product["id"].startswith(PACKAGE)]


class TestProfiles:
    def test_ids(self):
        ids = {info["id"] for info in profile_registry.listProfileInfo() if PACKAGE in info["id"]}
        assert ids == {f"{PACKAGE}:default", f"{PACKAGE}:uninstall"}

    @pytest.mark.parametrize("name", ["default", "uninstall"])
    def test_profile_is_an_extension_with_title_and_version(self, name):
        info = profile_registry.getProfileInfo(f"{PACKAGE}:{name}")
        assert info["type"] == EXTENSION
        assert info["product"] == PACKAGE
        assert info["version"] == "1000"
        assert info["title"].domain == info["description"].domain == PACKAGE

    def test_only_default_is_offered(self, installer):
        assert f"{PACKAGE}:uninstall" in hidden("getNonInstallableProfiles")
        assert f"{PACKAGE}:default" not in hidden("getNonInstallableProfiles")
        assert PACKAGE not in hidden("getNonInstallableProducts")
        assert installer.is_product_installable(PACKAGE) is True
        assert installer.get_install_profile(PACKAGE)["id"] == f"{PACKAGE}:default"
        assert installer.get_uninstall_profile(PACKAGE)["id"] == f"{PACKAGE}:uninstall"

    def test_profiles_of_upgrade_steps_are_hidden(self, integration, installer, tmp_path):
        """One inside the package, one of a subpackage: both ways upgrade profiles are commonly made."""
        for name in ("to_1001", "of_subpackage"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "metadata.xml").write_text("<metadata><version>1</version></metadata>")
        (tmp_path / "configure.zcml").write_text(
            """
            <configure xmlns:gs="http://namespaces.zope.org/genericsetup"
                       i18n_domain="collective.s3blobstorage">
              <gs:registerProfile name="to_1001" title="to 1001" directory="to_1001"
                                  provides="Products.GenericSetup.interfaces.EXTENSION" />
            </configure>
            """
        )
        subproduct = f"{PACKAGE}.upgrades"
        xmlconfig.file(
            str(tmp_path / "configure.zcml"), collective.s3blobstorage, context=integration["configurationContext"]
        )
        profile_registry.registerProfile(
            "to_1002", "to 1002", "", str(tmp_path / "of_subpackage"), subproduct, EXTENSION
        )
        try:
            assert f"{PACKAGE}:to_1001" in hidden("getNonInstallableProfiles")
            assert f"{subproduct}:to_1002" in hidden("getNonInstallableProfiles")
            assert subproduct in hidden("getNonInstallableProducts")
            assert not installer.is_product_installable(subproduct)
            assert installer.get_install_profile(PACKAGE)["id"] == f"{PACKAGE}:default"
        finally:
            profile_registry.unregisterProfile("to_1001", PACKAGE)
            profile_registry.unregisterProfile("to_1002", subproduct)


class TestUninstalled:
    @pytest.fixture(autouse=True)
    def uninstall(self, installer):
        assert installer.uninstall_product(PACKAGE) is True

    def test_is_not_installed_and_can_be_installed_again(self, installer, browser_layers):
        assert installer.is_product_installed(PACKAGE) is False
        assert installer.install_product(PACKAGE) is True
        assert installer.is_product_installed(PACKAGE) is True

    def test_no_browser_layer(self, browser_layers):
        assert IS3BlobStorageLayer not in browser_layers

    def test_no_profile_version(self, setup_tool):
        assert setup_tool.getLastVersionForProfile(f"{PACKAGE}:default") == "unknown"

    def test_nothing_named_after_us_in_the_site(self, portal, setup_tool):
        traces = {name for name, content in exported(setup_tool).items() if PACKAGE.encode() in content}
        assert traces == set()
        names = [r.name for r in getSiteManager(portal).registeredUtilities() if PACKAGE in (r.name or "")]
        assert names == []
        assert IS3BlobStorageLayer not in getSiteManager(portal).getAllUtilitiesRegisteredFor(ILocalBrowserLayerType)


def test_uninstall_restores_the_site_of_before(installer, setup_tool):
    """The whole export is the same whether the add-on was never there or was installed and removed."""
    installer.uninstall_product(PACKAGE)
    before = exported(setup_tool)
    installer.install_product(PACKAGE)
    installed = exported(setup_tool)
    installer.uninstall_product(PACKAGE)
    after = exported(setup_tool)
    changed = {name for name in installed if installed[name] != before.get(name)}
    assert changed == {"browserlayer.xml", "componentregistry.xml", "registry.xml"}
    assert after == before
