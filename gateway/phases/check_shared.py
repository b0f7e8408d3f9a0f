"""Whether a request would change an object that its tenant only shares. Pure."""

from __future__ import annotations

from gateway.errors import KIND_WORDS, GatewayError
from gateway.model import Directory, ObjectPlace, Tenant
from gateway.operations import Operation
from gateway.phases.locate import Located


def check_shared(operation: Operation, located: Located, *, tenant: Tenant, directory: Directory) -> ObjectPlace | None:
    """The object that is changed, where only the owner index can say that it is this tenant's; else None.

    That is asked about objects that are shared with others, for who made one may change it, and about whatever a tenant
    changes beside an object shared with it. Raises GatewayError 403 for an object that is shared with this tenant,
    whoever made it.
    """
    kind = operation.changes
    if kind is None:
        return None
    changed = ObjectPlace(located.target.account.route, kind, located.path_ids[kind])
    if tenant.shares(changed):
        raise GatewayError(
            403,
            f"{KIND_WORDS.get(kind, kind)} '{located.known[changed.upstream]}' is shared by several tenants: this one"
            " can read and run it, not change or delete it",
            code="shared_object",
            type="permission_error",
            param=kind,
        )
    is_doubtful = changed in directory.shared_objects or tenant.has_seen_shared(changed.route)
    return changed if is_doubtful else None
