"""What the store refused, in OpenAI's words. Clients parse these sentences (recorded answers and public issues,
2023–2026). Pure."""

from __future__ import annotations

from gateway.engine.store.results import (
    Absent,
    NothingToRun,
    RunActive,
    RunStatus,
    UnknownCursor,
    WrongOutputs,
    WrongStatus,
)
from gateway.errors import GatewayError, bad_request, unknown_id


def unknown(absent: Absent, ids: dict[str, str]) -> GatewayError:
    """`ids` of the request by kind."""
    return unknown_id(absent.kind, ids.get(absent.kind, ""))


def unknown_cursor(cursor: UnknownCursor, kind: str, query: dict[str, str]) -> GatewayError:
    return unknown_id(kind, query.get(cursor.parameter, ""))


def cannot_add(thread: str, active: RunActive) -> GatewayError:
    return bad_request(f"Can't add messages to {thread} while a run {active.run} is active.")


def cannot_delete(thread: str, active: RunActive) -> GatewayError:
    """OpenAI's sentence for it is not known."""
    return bad_request(f"Can't delete messages of {thread} while a run {active.run} is active.")


def already_active(thread: str, active: RunActive) -> GatewayError:
    return bad_request(f"Thread {thread} already has an active run {active.run}.")


def nothing_to_run(_: NothingToRun) -> GatewayError:
    return bad_request(
        "Run creation requires a Thread with a user message or an assistant with instructions.", code="invalid_thread"
    )


def cannot_cancel(wrong: WrongStatus) -> GatewayError:
    return bad_request(f"Cannot cancel run with status '{wrong.status}'.")


def takes_no_outputs(status: RunStatus) -> GatewayError:
    return bad_request(f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(wrong: WrongOutputs) -> GatewayError:
    expected, got = (", ".join(f"'{call}'" for call in calls) for calls in (wrong.expected, wrong.got))
    return bad_request(f"Expected tool outputs for call_ids [{expected}], got [{got}]")


def tells_nothing(run: str) -> GatewayError:
    return GatewayError(
        404,
        f"run '{run}' was not streamed, or ended more than 15 minutes ago: there are no events of it; read the run",
        code="events_gone",
    )


def not_served(operation: str) -> GatewayError:
    return bad_request(
        f"this provider has no files and no vector stores ('{operation}'): the gateway serves its threads itself, over"
        " an API that only models answer",
        code="unsupported_by_model_api",
    )
