"""Texts that people read, in their language: the English text is the id of its translations in ``locales/``."""

from zope.i18nmessageid import MessageFactory

_ = MessageFactory("collective.s3blobstorage")
