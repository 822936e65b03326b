"""The GenericSetup profiles: installed, upgraded, uninstalled without a trace."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from plone.app.testing import TEST_USER_ID, setRoles
from plone.base.interfaces import INonInstallable
from plone.browserlayer.interfaces import ILocalBrowserLayerType
from plone.restapi.interfaces import IControlpanelLayer
from Products.GenericSetup import EXTENSION, profile_registry
from zope.component import getAllUtilitiesRegisteredFor, getMultiAdapter, getSiteManager
from zope.component.hooks import getSite
from zope.configuration import xmlconfig
from zope.interface import alsoProvides

import collective.s3blobstorage
from collective.s3blobstorage.controlpanel.schema import ISiteSettings
from collective.s3blobstorage.controlpanel.settings import Settings
from collective.s3blobstorage.delivery.interfaces import PREFIX, IDeliverySettings
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.permissions import CHANGE_SETTINGS, OPERATE, VIEW_STATUS
from collective.s3blobstorage.services.controlpanels.panel import delivery_panel
from collective.s3blobstorage.uploader.chosen import uploader_for

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
        assert profile_last_version(f"{PACKAGE}:default") == "1003"
        assert setup_tool.getVersionForProfile(f"{PACKAGE}:default") == "1003"

    def test_nothing_changes_until_the_owner_switches_it_on(self, portal):
        assert portal.portal_registry[f"{PREFIX}.delivery_mode"] == "stream"
        assert portal.portal_registry[f"{PREFIX}.upload_enabled"] is False

    def test_nothing_to_upgrade_on_a_fresh_site(self, setup_tool):
        assert setup_tool.listUpgrades(f"{PACKAGE}:default") == []

    def test_site_setup_has_the_entry(self, portal):
        [entry] = [one for one in portal.portal_controlpanel.listActions() if one.id == "s3blobstorage"]
        assert (entry.title, entry.category, entry.visible) == ("Blob storage", "Products", True)
        assert entry.permissions == (VIEW_STATUS,)
        assert entry.getActionExpression() == "string:${portal_url}/@@s3blobstorage-controlpanel"

    @pytest.mark.parametrize(
        ("roles", "seen"),
        [(["Manager"], True), (["Site Administrator"], True), (["Editor"], False), (["Member"], False)],
    )
    def test_who_sees_the_entry(self, portal, roles, seen):
        setRoles(portal, TEST_USER_ID, roles)
        found = {one["id"] for one in portal.portal_controlpanel.enumConfiglets(group="Products")}
        assert ("s3blobstorage" in found) is seen

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
        assert info["version"] == "1003"
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


def test_uninstall_takes_back_what_the_security_tab_said(portal, installer, setup_tool):
    installer.uninstall_product(PACKAGE)
    before = exported(setup_tool)
    installer.install_product(PACKAGE)
    for permission in (VIEW_STATUS, CHANGE_SETTINGS, OPERATE):
        portal.manage_permission(permission, ["Editor"], acquire=0)
    assert VIEW_STATUS.encode() in exported(setup_tool)["rolemap.xml"]
    installer.uninstall_product(PACKAGE)
    assert exported(setup_tool) == before


PAST = Path(__file__).parents[2] / "data" / "profiles"


@pytest.fixture
def installed_by(installer):
    """``installed_by("1000")``: the site as that version of the profile makes it, a copy of which is kept."""

    def install(version):
        assert installer.uninstall_product(PACKAGE)
        now = dict(profile_registry.getProfileInfo(f"{PACKAGE}:default"))
        profile_registry.unregisterProfile("default", PACKAGE)
        past = now | {"path": str(PAST / version / "default")}
        try:
            _register(past)
            assert installer.install_product(PACKAGE)
        finally:
            profile_registry.unregisterProfile("default", PACKAGE)
            _register(now)

    return install


def _register(info):
    profile_registry.registerProfile(
        "default", info["title"], info["description"], info["path"], PACKAGE, EXTENSION, info["for"]
    )


@pytest.mark.parametrize("version", sorted(path.name for path in PAST.iterdir()))
def test_a_site_of_a_past_version_is_upgraded(portal, installer, setup_tool, installed_by, version):
    """It is then as one that was installed now, and keeps what its owner has set."""
    fresh = exported(setup_tool)
    installed_by(version)
    assert setup_tool.getLastVersionForProfile(f"{PACKAGE}:default") == (version,)
    assert exported(setup_tool) != fresh
    registry = portal.portal_registry
    registry[f"{PREFIX}.delivery_mode"] = "redirect"
    assert setup_tool.listUpgrades(f"{PACKAGE}:default")
    installer.upgrade_product(PACKAGE)
    assert registry[f"{PREFIX}.delivery_mode"] == "redirect"
    assert registry[f"{PREFIX}.upload_enabled"] is False
    registry[f"{PREFIX}.delivery_mode"] = "stream"
    assert exported(setup_tool) == fresh
    assert setup_tool.listUpgrades(f"{PACKAGE}:default") == []
    assert installer.uninstall_product(PACKAGE)


@pytest.mark.parametrize("version", ["1001", "1002"])
def test_until_it_is_upgraded_a_site_goes_on_as_before(portal, installer, http_request, installed_by, version):
    """The release is new, the site's records are not: what was there works."""
    installed_by(version)
    setRoles(portal, TEST_USER_ID, ["Manager"])
    alsoProvides(http_request, IControlpanelLayer, IS3BlobStorageLayer)
    panel = delivery_panel(portal, http_request)
    assert panel.schema is IDeliverySettings
    assert portal.portal_registry.forInterface(panel.schema, prefix=panel.schema_prefix).delivery_expiry == 300
    assert str(Settings(portal, http_request).upload.why_not)
    assert str(Settings(portal, http_request).uploader.why_not) and not uploader_for("File")
    installer.upgrade_product(PACKAGE)
    assert panel.schema is ISiteSettings and uploader_for("File")
    assert portal.portal_registry.forInterface(panel.schema, prefix=panel.schema_prefix).upload_user_count == 50


def test_there_is_a_copy_of_every_past_version(profile_last_version):
    now = int(profile_last_version(f"{PACKAGE}:default"))
    assert sorted(path.name for path in PAST.iterdir()) == [str(version) for version in range(1000, now)]


def test_uninstall_restores_the_site_of_before(installer, setup_tool):
    """The whole export is the same whether the add-on was never there or was installed and removed."""
    installer.uninstall_product(PACKAGE)
    before = exported(setup_tool)
    installer.install_product(PACKAGE)
    installed = exported(setup_tool)
    installer.uninstall_product(PACKAGE)
    after = exported(setup_tool)
    changed = {name for name in installed if installed[name] != before.get(name)}
    assert changed == {"actions.xml", "browserlayer.xml", "componentregistry.xml", "controlpanel.xml", "registry.xml"}
    assert after == before
