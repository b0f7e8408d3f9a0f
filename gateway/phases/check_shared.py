"""Whether a request would change an object that its tenant only shares. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.errors import KIND_WORDS, GatewayError
from gateway.model import Directory, ObjectPlace, Tenant
from gateway.operations import Operation
from gateway.phases.locate import Located

_OF_THREADS: Mapping[str, str] = {
    "create_thread": "tool_resources.",
    "modify_thread": "tool_resources.",
    "create_thread_and_run": "thread.tool_resources.",
}
"""Where the vector store of a thread is named. The provider adds to it the files that messages attach (OpenAI's guide
to file search, 2024–2026), so whoever gives a thread a store changes it by requests that do not name it. The store of
an assistant or a run stays as it is."""


def check_shared(
    operation: Operation, located: Located, *, tenant: Tenant, directory: Directory
) -> Sequence[ObjectPlace]:
    """The objects that are changed, where only the owner index can say that they are this tenant's.

    That is asked about objects that are shared with others, for who made one may change it, and about whatever a tenant
    changes beside an object shared with it. Raises GatewayError 403 for an object that is shared with this tenant,
    whoever made it.
    """
    doubtful = []
    for place, param in _changed(operation, located):
        if tenant.shares(place):
            raise _refused(place, located.known[place.upstream], param)
        if place in directory.shared_objects or tenant.has_seen_shared(place.route):
            doubtful.append(place)
    return doubtful


def _changed(operation: Operation, located: Located) -> Iterator[tuple[ObjectPlace, str]]:
    """Account-level objects that the request changes, and the parameters that name them."""
    route = located.target.account.route
    if (kind := operation.changes) is not None:
        yield ObjectPlace(route, kind, located.path_ids[kind]), kind
    if (beginning := _OF_THREADS.get(operation.name)) is not None:
        for slot, upstream in located.slots:
            if slot.kind == "vector_store" and slot.param.startswith(beginning):
                yield ObjectPlace(route, slot.kind, upstream), slot.param


def _refused(place: ObjectPlace, shown: str, param: str) -> GatewayError:
    hint = "" if param == place.kind else ", as files of messages would; give it to an assistant or a run instead"
    words = KIND_WORDS.get(place.kind, place.kind)
    return GatewayError(
        403,
        f"{words} '{shown}' is shared by several tenants: this one can use it, not change or delete it{hint}",
        code="shared_object",
        type="permission_error",
        param=param,
    )
