"""Whether everybody may have a file: then caches that many share may keep it, and only then."""

from AccessControl import Unauthorized, getSecurityManager
from AccessControl.SecurityManagement import newSecurityManager, setSecurityManager
from AccessControl.SpecialUsers import nobody
from AccessControl.ZopeGuards import guarded_getattr


def anonymous_may_view(context, fieldname):
    """Whether Anonymous has View on the item, and the field's own guard lets Anonymous through.

    Asks Zope's security as Anonymous, so that local roles, acquired permissions and a field's ``read_permission`` count
    as they do when Anonymous comes. Raises nothing: what cannot be told is not public. In the thread of the request,
    whose user is back afterwards.
    """
    of_request = getSecurityManager()
    newSecurityManager(None, nobody)
    try:
        if not getSecurityManager().checkPermission("View", context):
            return False
        guarded_getattr(context, fieldname)
        return True
    except (Unauthorized, AttributeError):
        return False
    finally:
        setSecurityManager(of_request)
