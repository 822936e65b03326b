"""The demo's Plone site: classic UI with the default theme, the add-on installed, a few files and images."""

from __future__ import annotations

from typing import Any

import samples
from plone.app.textfield.value import RichTextValue
from plone.dexterity.utils import createContentInContainer
from plone.namedfile.file import NamedBlobFile, NamedBlobImage
from Products.CMFCore.utils import getToolByName
from Products.CMFPlone.factory import addPloneSite

SITE = "demo"
UPLOAD = "collective.s3blobstorage.upload_enabled"
PROFILES = (
    "plone.app.contenttypes:default",
    "plonetheme.barceloneta:default",
    "plone.restapi:default",
    "collective.s3blobstorage:default",
)

WELCOME = """\
<p><img src="resolveuid/{picture}/@@images/image/large" alt="" class="img-fluid rounded" /></p>
<p>The files and images of this site are objects in an S3 bucket on this machine; the site's database holds the rest.
Nothing about working with them is different:</p>
<ul>
<li>Log in and upload a file or an image; the terminal that runs the demo says how to list the bucket.</li>
<li>Look at <a href="resolveuid/{files}">the files</a> and <a href="resolveuid/{pictures}">the pictures</a> that are
there: each was written to the bucket when the site was made, and is read from it again.</li>
<li>Drop large files on <a href="resolveuid/{files}/@@upload-files">this page</a>: they go from the browser straight to
the bucket, can be paused, and go on where a connection was lost.</li>
<li>Edit a file, look at its history, go back to the older version; copy it, rename it, delete it.</li>
</ul>
"""

NEWS = """\
<p>Until now a site's files sat on one disk or on a shared one. In a bucket they can be as many as one likes, and every
instance, on any machine, reads the same.</p>
<p>The picture above is a lead image: it and each of its scales are objects of their own.</p>
"""


def make_site(app: Any) -> None:
    """Add the site and its content to Zope's root ``app``; nothing is committed."""
    site = addPloneSite(
        app,
        SITE,
        title="S3 blob storage",
        description="A demo of collective.s3blobstorage",
        extension_ids=PROFILES,
    )
    pictures = add(site, "Folder", "pictures", "Pictures", "Drawn by the demo, kept in the bucket.")
    dusk = add_picture(pictures, "dusk", "Dusk", samples.landscape(7, *samples.DUSK))
    add_picture(pictures, "morning", "Morning", samples.landscape(12, *samples.MORNING))
    add_picture(pictures, "night", "Night", samples.landscape(21, *samples.NIGHT))
    pictures.setLayout("album_view")
    files = add(site, "Folder", "files", "Files", "A report and a table.")
    add_file(files, "report", "Report", "report.pdf", "application/pdf", samples.report())
    add_file(files, "measurements", "Measurements", "measurements.csv", "text/csv", samples.measurements())
    lead = NamedBlobImage(samples.landscape(33, *samples.MORNING), contentType="image/jpeg", filename="valley.jpg")
    news = add(site, "News Item", "moved", "Our files have moved", "They are in the object store now.")
    news.text = rich(NEWS)
    news.image = lead
    news.image_caption = "The valley, in the morning"
    news.reindexObject()
    welcome = add(site, "Document", "welcome", "Welcome", "This site keeps its files in an S3 bucket.")
    welcome.text = rich(WELCOME.format(picture=dusk.UID(), files=files.UID(), pictures=pictures.UID()))
    welcome.exclude_from_nav = True
    welcome.reindexObject()
    site.setDefaultPage("welcome")
    getToolByName(site, "portal_registry")[UPLOAD] = True


def add(container: Any, portal_type: str, name: str, title: str, description: str = "", **fields: Any) -> Any:
    """Add a published item."""
    item = createContentInContainer(
        container, portal_type, id=name, title=title, description=description, checkConstraints=False, **fields
    )
    workflow = getToolByName(container, "portal_workflow")
    if workflow.getChainFor(item):
        workflow.doActionFor(item, "publish")
    return item


def add_picture(container: Any, name: str, title: str, jpeg: bytes) -> Any:
    image = NamedBlobImage(jpeg, contentType="image/jpeg", filename=f"{name}.jpg")
    return add(container, "Image", name, title, image=image)


def add_file(container: Any, name: str, title: str, filename: str, content_type: str, data: bytes) -> Any:
    file = NamedBlobFile(data, contentType=content_type, filename=filename)
    return add(container, "File", name, title, file=file)


def rich(html: str) -> RichTextValue:
    return RichTextValue(html, "text/html", "text/x-html-safe")
