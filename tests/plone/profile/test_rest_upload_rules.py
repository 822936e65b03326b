"""``@blob-upload`` where the site has rules of its own: fields, constraints, policies, accounts, and time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import transaction
from AccessControl.SecurityManagement import newSecurityManager
from plone import api
from plone.app.testing import TEST_USER_ID, setRoles
from plone.dexterity.fti import DexterityFTI
from Products.CMFPlone.interfaces.constrains import ISelectableConstrainTypes
from Products.CMFPlone.utils import get_installer
from transaction.interfaces import TransientError
from zope.annotation.interfaces import IAnnotations
from zope.component import getGlobalSiteManager, getMultiAdapter, getUtility
from zope.i18nmessageid import MessageFactory
from zope.interface import Interface, alsoProvides, implementer

from collective.s3blobstorage.interfaces import IBlobStorages, IUploadPolicy
from collective.s3blobstorage.layer import IS3BlobStorageLayer
from collective.s3blobstorage.uploading.interfaces import Announced, UploadRefused
from collective.s3blobstorage.uploading.open_uploads import KEY, OpenUploads
from collective.s3blobstorage.uploading.policy import SitePolicy, check_completed
from collective.s3blobstorage.uploading.token import read, sign

MB = 2**20
FILE = {"method": "put", "filename": "film.mp4", "size": 1000, "content-type": "video/mp4", "@type": "File"}
LARGE = FILE | {"size": 20 * MB, "method": "multipart"}
MODEL = """\
<model xmlns="http://namespaces.plone.org/supermodel/schema"
       xmlns:security="http://namespaces.plone.org/supermodel/security">
  <schema>
    <field name="title" type="zope.schema.TextLine"><title>Title</title></field>
    <field name="film" type="plone.namedfile.field.NamedBlobFile"><title>Film</title></field>
    <field name="master" type="plone.namedfile.field.NamedBlobFile" security:write-permission="cmf.ManagePortal">
      <title>Master</title>
    </field>
    <field name="old" type="plone.namedfile.field.NamedFile"><title>Not in a blob</title></field>
    <field name="fixed" type="plone.namedfile.field.NamedBlobFile"><title>Fixed</title><readonly>True</readonly></field>
  </schema>
</model>
"""


NO_LIMITS = SitePolicy(user_count=2**60, user_size=2**60, site_size=2**60)


@pytest.fixture
def portal(functional):
    portal = functional["portal"]
    setRoles(portal, TEST_USER_ID, ["Manager"])
    api.portal.set_registry_record("collective.s3blobstorage.upload_enabled", True)
    portal.portal_types["Film"] = DexterityFTI(
        "Film", global_allow=True, filter_content_types=False, klass="plone.dexterity.content.Container",
        model_source=MODEL, schema="", behaviors=(), add_permission="cmf.AddPortalContent",
    )  # fmt: skip
    api.content.create(portal, "Folder", "up")
    api.content.create(portal, "File", "file")
    api.content.create(portal, "Film", "film")
    transaction.commit()
    yield portal
    transaction.abort()


@pytest.fixture
def ask(functional, portal):
    """``ask(method, path, body)``: (status, JSON) of the service, in the transaction of the test."""

    def ask(method, path, body=None):
        request = functional["request"].clone()
        alsoProvides(request, IS3BlobStorageLayer)
        context = portal.unrestrictedTraverse(path.partition("@blob-upload")[0].strip("/")) if path else portal
        request.method = method
        request.environ.update({"CONTENT_TYPE": "application/json", "QUERY_STRING": ""})
        request.set("BODY", b"" if body is None else json.dumps(body).encode())
        request.set("ACTUAL_URL", f"http://nohost/plone/{path}")
        service = getMultiAdapter((context, request), name=f"{method}_application_json_@blob-upload")
        for part in path.partition("@blob-upload/")[2].split("/"):
            if part:
                service = service.publishTraverse(request, part)
        told = service.reply()
        status = request.response.getStatus()
        return status, json.loads(json.dumps(told)) if status != 204 else None

    return ask


@pytest.fixture
def unfinished(functional, s3, layer_bucket):
    """Ids of the multipart uploads in this test's staging area."""

    def unfinished():
        found = s3.list_multipart_uploads(Bucket=layer_bucket).get("Uploads", ())
        area = f"{functional['prefix']}/uploads/"
        return {one["Key"].removeprefix(area) for one in found if one["Key"].startswith(area)}

    return unfinished


def became(answer):
    """Status, and field or reason of an error."""
    status, told = answer
    error = (told or {}).get("error", {})
    return status, error.get("field") or error.get("reason")


# Transactions


def test_what_is_begun_goes_with_its_transaction(ask, unfinished, portal):
    status, told = ask("POST", "up/@blob-upload", LARGE)
    assert status == 201 and len(unfinished()) == 1
    transaction.abort()
    assert unfinished() == set() and KEY not in IAnnotations(portal)
    token = told["id"]
    assert became(ask("GET", f"up/@blob-upload/{token}")) == (410, "ended")
    transaction.abort()
    assert ask("POST", "up/@blob-upload", LARGE)[0] == 201
    transaction.commit()
    assert len(unfinished()) == 1


def test_what_conflicts_is_dropped_before_it_is_begun_again(ask, unfinished, functional, portal):
    """Zope aborts where a commit fails, and tries again."""
    assert ask("POST", "up/@blob-upload", LARGE)[0] == 201
    before = unfinished()
    manager = transaction.TransactionManager()
    connection = functional["zodbDB"].open(manager)
    other = connection.root()["Application"]["plone"]
    ticket = read(ask("POST", "up/@blob-upload", FILE)[1]["id"])
    OpenUploads(other).begin(ticket, NO_LIMITS)
    manager.commit()
    connection.close()
    with pytest.raises(TransientError):
        transaction.commit()
    transaction.abort()
    assert len(before) == 1 and unfinished() == set()
    assert OpenUploads(portal).is_open(ticket.upload.id)


def test_whatever_is_refused_is_not_committed(ask, portal, unfinished):
    portal.title = "changed before"
    assert became(ask("POST", "up/@blob-upload", FILE | {"size": 0})) == (422, "empty")
    assert transaction.isDoomed()
    transaction.abort()
    assert ask("POST", "up/@blob-upload", FILE)[0] == 201 and not transaction.isDoomed()


def test_reading_writes_nothing(ask, portal):
    assert ask("GET", "up/@blob-upload")[0] == 200
    assert KEY not in IAnnotations(portal) and not portal._p_jar._registered_objects


# Time and accounts


def test_after_its_time(ask, unfinished):
    _, told = ask("POST", "up/@blob-upload", LARGE)
    transaction.commit()
    ticket = read(told["id"])
    left = ticket.expires - datetime.now(UTC)
    assert timedelta(hours=23, minutes=58) < left <= timedelta(hours=24)
    late = sign(replace(ticket, expires=datetime.now(UTC) - timedelta(seconds=1)))
    for method, body in (("GET", None), ("PUT", {"parts": [1]}), ("DELETE", None)):
        assert became(ask(method, f"up/@blob-upload/{late}", body)) == (410, "expired")
        transaction.abort()
    assert unfinished() == {ticket.upload.id}
    assert ask("GET", f"up/@blob-upload/{told['id']}")[0] == 200


def test_no_request_is_signed_for_longer_than_the_upload_lasts(ask):
    _, told = ask("POST", "up/@blob-upload", FILE)
    transaction.commit()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=100)
    status, again = ask("PUT", f"up/@blob-upload/{sign(replace(read(told['id']), expires=soon))}", {})
    assert status == 200 and datetime.fromisoformat(again["request"]["expires"]) <= soon
    assert datetime.fromisoformat(told["request"]["expires"]) > soon  # presign-max-expiry is an hour


def test_an_account_of_the_root_is_not_the_sites_of_the_same_name(ask, functional, portal):
    for folder in (functional["app"], portal):
        folder.acl_users.userFolderAddUser("jane", "a long secret", ["Manager"], [])
    transaction.commit()

    def become(folder):
        newSecurityManager(None, folder.acl_users.getUser("jane").__of__(folder.acl_users))

    become(portal)
    status, told = ask("POST", "up/@blob-upload", FILE)
    assert status == 201
    transaction.commit()
    become(functional["app"])
    assert became(ask("PUT", f"up/@blob-upload/{told['id']}", {})) == (404, "token")
    transaction.abort()
    assert ask("GET", "up/@blob-upload")[1]["unfinished"]["count"] == 0
    become(portal)
    assert ask("PUT", f"up/@blob-upload/{told['id']}", {})[0] == 200
    assert ask("GET", "up/@blob-upload")[1]["unfinished"]["count"] == 1


def test_too_much_is_not_begun_at_all(ask, unfinished, portal):
    """Not even to be dropped again with the transaction."""
    api.portal.set_registry_record("collective.s3blobstorage.upload_user_count", 1)
    assert ask("POST", "up/@blob-upload", LARGE)[0] == 201
    before = unfinished()
    assert became(ask("POST", "up/@blob-upload", LARGE)) == (422, "quota")
    assert len(before) == 1 and unfinished() == before


# Fields and types


def test_fields(ask, portal):
    film = FILE | {"@type": "Film"}
    assert became(ask("POST", "up/@blob-upload", film)) == (400, "field")  # it has no primary one
    for name in ("title", "old", "fixed", "nothing"):
        assert became(ask("POST", "up/@blob-upload", film | {"field": name})) == (400, "field"), name
    transaction.abort()
    for name in ("film", "master"):
        status, told = ask("POST", "up/@blob-upload", film | {"field": name})
        assert status == 201 and read(told["id"]).announced.field == name
    assert ask("GET", "film/@blob-upload")[1]["fields"] == ["film", "master"]
    transaction.commit()
    setRoles(portal, TEST_USER_ID, ["Contributor", "Editor"])  # who may not manage the site
    assert ask("GET", "film/@blob-upload")[1]["fields"] == ["film"]
    path = f"up/@blob-upload/{told['id']}"
    named = {name: value for name, value in FILE.items() if name != "@type"}
    for method, where, body in (
        ("POST", "up/@blob-upload", film | {"field": "master"}),
        ("POST", "film/@blob-upload", named | {"field": "master", "replace": True}),
        ("PUT", path, {}),
        ("GET", path, None),
    ):
        status, error = ask(method, where, body)
        assert (status, error["error"]["field"]) == (403, "field") and "field master" in error["error"]["message"]
        transaction.abort()
    assert ask("POST", "film/@blob-upload", named | {"field": "film", "replace": True})[0] == 201


def test_what_is_replaced_is_bound(ask, portal):
    named = {name: value for name, value in FILE.items() if name != "@type"}
    status, told = ask("POST", "file/@blob-upload", named | {"replace": True})
    assert status == 201
    announced = read(told["id"]).announced
    assert announced == Announced("film.mp4", 1000, "video/mp4", "File", "file", portal["file"].UID())
    assert read(told["id"]).container == portal["file"].UID()


def test_a_file_is_no_container(ask):
    """It would acquire what its container allows."""
    assert became(ask("POST", "file/@blob-upload", FILE)) == (403, "@type")
    told = ask("GET", "file/@blob-upload")[1]
    assert told["portal-types"] == [] and told["fields"] == ["file"]


def test_the_site_itself(ask, portal):
    status, told = ask("POST", "@blob-upload", FILE)
    assert status == 201 and read(told["id"]).container == ""
    transaction.commit()
    assert ask("PUT", f"@blob-upload/{told['id']}", {})[0] == 200
    named = {name: value for name, value in FILE.items() if name != "@type"}
    assert ask("POST", "@blob-upload", named | {"replace": True})[0] == 403


def test_what_a_folder_is_restricted_to(ask, portal):
    """Also meanwhile."""
    _, told = ask("POST", "up/@blob-upload", FILE)
    restriction = ISelectableConstrainTypes(portal["up"])
    restriction.setConstrainTypesMode(1)
    restriction.setLocallyAllowedTypes(["Image"])
    restriction.setImmediatelyAddableTypes(["Image"])
    transaction.commit()
    for method, path, body in (
        ("POST", "up/@blob-upload", FILE),
        ("PUT", f"up/@blob-upload/{told['id']}", {}),
        ("GET", f"up/@blob-upload/{told['id']}", None),
    ):
        assert became(ask(method, path, body)) == (403, "@type")
        transaction.abort()
    assert ask("GET", "up/@blob-upload")[1]["portal-types"] == ["Image"]
    assert ask("DELETE", f"up/@blob-upload/{told['id']}")[0] == 204


# Policies of add-ons


class Policy:
    def __init__(self, context, request):
        self.context = context


@pytest.fixture
def policies():
    """``policies(class)`` registers one for the test."""
    made = []

    def register(policy):
        policy = implementer(IUploadPolicy)(policy)
        getGlobalSiteManager().registerSubscriptionAdapter(policy, (Interface, Interface), IUploadPolicy)
        made.append(policy)

    yield register
    for policy in made:
        getGlobalSiteManager().unregisterSubscriptionAdapter(policy, (Interface, Interface), IUploadPolicy)


def test_a_policy_is_asked_last_and_before_anything_is_begun(ask, policies, portal, unfinished):
    asked = []
    said = MessageFactory("some.addon")("No films on ${day}.", mapping={"day": "Sundays"})

    class NoFilms(Policy):
        def check_start(self, announced):
            asked.append((self.context.getId(), announced))
            raise UploadRefused(said, "policy")

    policies(NoFilms)
    assert became(ask("POST", "up/@blob-upload", LARGE | {"size": 0})) == (422, "empty")
    assert asked == []
    status, told = ask("POST", "up/@blob-upload", LARGE)
    assert (status, told["error"]) == (
        422,
        {"type": "UploadRefused", "message": "No films on Sundays.", "reason": "policy"},
    )
    assert asked == [("up", Announced("film.mp4", 20 * MB, "video/mp4", "File", "file"))] and unfinished() == set()


def test_a_policy_that_fails_lets_nothing_through(ask, policies, unfinished):
    class Broken(Policy):
        def check_start(self, announced):
            raise RuntimeError("the scanner is out")

    policies(Broken)
    with pytest.raises(RuntimeError, match="scanner"):
        ask("POST", "up/@blob-upload", LARGE)
    assert unfinished() == set()


def test_each_policy_reads_what_arrived_from_its_beginning(policies, functional, portal, tmp_path):
    seen = []

    class First(Policy):
        def check_completed(self, announced, reader, sniffed):
            seen.append((reader.read(3), sniffed))

    class Second(First):
        def check_completed(self, announced, reader, sniffed):
            super().check_completed(announced, reader, sniffed)
            raise UploadRefused("a virus")

    policies(First)
    policies(Second)
    file = tmp_path / "file"
    file.write_bytes(b"abcdef")
    with file.open("rb") as reader, pytest.raises(UploadRefused, match="a virus"):
        check_completed(portal, functional["request"], Announced("a", 6, "text/plain", "File"), reader, "text/html")
    assert seen == [(b"abc", "text/html")] * 2


# Removal


def test_the_register_goes_with_the_add_on(ask, functional, portal):
    assert ask("POST", "up/@blob-upload", FILE)[0] == 201
    transaction.commit()
    assert KEY in IAnnotations(portal)
    assert get_installer(portal, functional["request"]).uninstall_product("collective.s3blobstorage")
    assert KEY not in IAnnotations(portal)


@pytest.mark.parametrize("attribute, says", [("_writable", "read-only"), ("_confirmed", "SSE-S3")])
def test_where_nothing_can_be_uploaded_the_body_is_not_to_blame(ask, portal, monkeypatch, attribute, says):
    monkeypatch.setattr(getUtility(IBlobStorages).for_context(portal).uploads(), attribute, False)
    status, told = ask("POST", "up/@blob-upload", FILE)
    assert (status, told["error"]["type"]) == (409, "Conflict") and says in told["error"]["message"]
    assert "field" not in told["error"]
