"""Objects of served threads, as OpenAI shaped them: made from requests, and changed as runs go on. Pure.

Every field of the published description (2026-08-21) is there, and those that only recorded answers had
(`tool_resources` and `reasoning_effort` of runs, `expires_at` of steps). Times are seconds since 1970, ids are
internal. An object is never changed: what changes it makes another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

RUN_LIFE_S = 600
"""A run expires ten minutes after its creation, waiting for tool outputs included."""

_ASSISTANT: Mapping[str, Any] = {
    "name": None,
    "description": None,
    "model": None,
    "instructions": None,
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "response_format": "auto",
    "reasoning_effort": None,
}
_OF_THE_ASSISTANT = (
    "model",
    "instructions",
    "tools",
    "tool_resources",
    "temperature",
    "top_p",
    "response_format",
    "reasoning_effort",
)
"""What a run takes from its assistant unless it says otherwise."""
_OF_THE_RUN: Mapping[str, Any] = {
    "metadata": {},
    "max_prompt_tokens": None,
    "max_completion_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
_ASKED_OF_MODELS = (
    *("temperature", "top_p", "response_format", "reasoning_effort"),
    *("tool_choice", "parallel_tool_calls"),
)
_ENDED_AT = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at", "expired": "expired_at"}
_CUT_SHORT = {
    "max_completion_tokens": "max_tokens",
    "max_prompt_tokens": "max_tokens",
    "content_filter": "content_filter",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
}
"""Why a message is not whole, by why its run ended; else `run_failed`."""


def new_assistant(given: Mapping[str, Any], *, id: str, now: int) -> Json:  # noqa: A002  it is called so everywhere
    """As it is kept: with what was said and nothing else, for a default that is said makes some models refuse."""
    said = {name: value for name, value in given.items() if value is not None}
    return {"id": id, "object": "assistant", "created_at": now, **said}


def assistant_changes(given: Mapping[str, Any]) -> Json:
    """What replaces what was; null brings the default back. A model cannot be taken away."""
    return {name: value for name, value in given.items() if name != "model" or value is not None}


def assistant(kept: Mapping[str, Any]) -> Json:
    """As it is shown."""
    said = {name: value for name, value in kept.items() if value is not None}
    return {"id": None, "object": None, "created_at": None, **_ASSISTANT, **said}


def changes(given: Mapping[str, Any]) -> Json:
    """Of the metadata or the resources of a thread, message or run; null changes nothing."""
    return {name: value for name, value in given.items() if value is not None}


def thread(given: Mapping[str, Any], *, id: str, now: int) -> Json:  # noqa: A002
    return {
        "id": id,
        "object": "thread",
        "created_at": now,
        "metadata": given.get("metadata") or {},
        "tool_resources": given.get("tool_resources") or {},
    }


def message(given: Mapping[str, Any], *, id: str, thread: str, now: int) -> Json:  # noqa: A002
    """A message that a caller wrote."""
    return {
        **_message(id, thread, now),
        "status": "completed",
        "completed_at": now,
        "role": given["role"],
        "content": [_part(part) for part in _parts(given["content"])],
        "attachments": given.get("attachments") or [],
        "metadata": given.get("metadata") or {},
    }


def reply(run: Mapping[str, Any], *, id: str, now: int) -> Json:  # noqa: A002
    """A message that a run begins to write."""
    return {
        **_message(id, run["thread_id"], now),
        "status": "in_progress",
        "role": "assistant",
        "assistant_id": run["assistant_id"],
        "run_id": run["id"],
    }


def _message(id: str, thread: str, now: int) -> Json:  # noqa: A002
    return {
        "id": id,
        "object": "thread.message",
        "created_at": now,
        "thread_id": thread,
        "status": None,
        "incomplete_details": None,
        "completed_at": None,
        "incomplete_at": None,
        "role": None,
        "content": [],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def _parts(content: Any) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if type(content) is str else content


def _part(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return text_part(given["text"]) if given["type"] == "text" else given


def text_part(value: str, annotations: Sequence[Json] = ()) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": list(annotations)}}


def refusal_part(value: str) -> Json:
    return {"type": "refusal", "refusal": value}


def whole_reply(begun: Mapping[str, Any], content: Sequence[Json], *, now: int) -> Json:
    return {**begun, "content": list(content), "status": "completed", "completed_at": now}


def cut_reply(begun: Mapping[str, Any], content: Sequence[Json], *, why: str, now: int) -> Json:
    """A message that was begun and will not be whole. `why` is how its run ended, or of what it was incomplete."""
    return {
        **begun,
        "content": list(content),
        "status": "incomplete",
        "incomplete_at": now,
        "incomplete_details": {"reason": _CUT_SHORT.get(why, "run_failed")},
    }


def run(given: Mapping[str, Any], assistant: Mapping[str, Any], *, id: str, thread: str, now: int) -> Json:  # noqa: A002
    """A run as it is queued: what the request says, else what the assistant says, else what held at OpenAI."""

    def chosen(name: str, fallback: Any) -> Any:
        return fallback if given.get(name) is None else given[name]

    inherited = {name: chosen(name, assistant.get(name, _ASSISTANT[name])) for name in _OF_THE_ASSISTANT}
    instructions = (inherited["instructions"], given.get("additional_instructions"))
    own = {name: chosen(name, fallback) for name, fallback in _OF_THE_RUN.items()}
    return {
        "id": id,
        "object": "thread.run",
        "created_at": now,
        "thread_id": thread,
        "assistant_id": assistant["id"],
        "status": "queued",
        "started_at": None,
        "expires_at": now + RUN_LIFE_S,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "incomplete_details": None,
        "usage": None,
        **inherited,
        # How OpenAI joined them is unknown; it was a space or a line's end.
        "instructions": " ".join(text for text in instructions if text),
        **own,
        "truncation_strategy": {"last_messages": None, **own["truncation_strategy"]},
    }


def said(given: Mapping[str, Any], assistant: Mapping[str, Any]) -> Json:
    """What request or assistant, as it is kept, said of how the model is to answer; what nobody said is left out."""
    found = {name: assistant.get(name) if given.get(name) is None else given[name] for name in _ASKED_OF_MODELS}
    return {name: value for name, value in found.items() if value is not None}


def started_run(before: Mapping[str, Any], *, now: int) -> Json:
    return {**before, "status": "in_progress", "started_at": before["started_at"] or now, "required_action": None}


def waiting_run(before: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], usage: Json | None) -> Json:
    """A run that waits for the outputs of `calls` (of a step, without their outputs)."""
    asked = [
        {
            "id": call["id"],
            "type": "function",
            "function": {name: call["function"][name] for name in ("name", "arguments")},
        }
        for call in calls
    ]
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}
    return {**before, "status": "requires_action", "required_action": action, "usage": usage}


def ended_run(
    before: Mapping[str, Any],
    status: str,
    *,
    now: int,
    usage: Json | None,
    last_error: Json | None = None,
    incomplete: str | None = None,
) -> Json:
    """`status` is one that a run does not leave any more; `incomplete` says of what there was not enough."""
    stamp = _ENDED_AT.get(status)
    return {
        **before,
        "status": status,
        "expires_at": before["expires_at"] if status == "expired" else None,
        "required_action": None,
        "last_error": last_error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "usage": usage,
        **({stamp: now} if stamp is not None and stamp in before else {}),
    }


def step(run: Mapping[str, Any], details: Mapping[str, Any], *, id: str, now: int) -> Json:  # noqa: A002
    """A step that a run begins. `details` are `message_details` or `calls_details`."""
    return {
        "id": id,
        "object": "thread.run.step",
        "created_at": now,
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": "in_progress",
        "cancelled_at": None,
        "completed_at": None,
        "expired_at": None,
        "failed_at": None,
        "expires_at": run["expires_at"],
        "last_error": None,
        "step_details": details,
        "metadata": {},
        "usage": None,
    }


def message_details(message: str) -> Json:
    return {"type": "message_creation", "message_creation": {"message_id": message}}


def calls_details(calls: Sequence[Json]) -> Json:
    return {"type": "tool_calls", "tool_calls": list(calls)}


def function_call(id: str, name: str, arguments: str, output: str | None = None) -> Json:  # noqa: A002
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments, "output": output}}


def ended_step(
    before: Mapping[str, Any],
    status: str,
    *,
    now: int,
    usage: Json | None = None,
    details: Mapping[str, Any] | None = None,
    last_error: Json | None = None,
) -> Json:
    """`status` is completed, failed, cancelled or expired."""
    return {
        **before,
        "status": status,
        _ENDED_AT[status]: now,
        "step_details": before["step_details"] if details is None else details,
        "usage": usage,
        "last_error": last_error,
    }


def text_delta(message: str, value: str, *, index: int, is_first: bool) -> Json:
    """One piece of text; the first of a part opens it, with its (empty) annotations, as recorded."""
    text: Json = {"value": value, "annotations": []} if is_first else {"value": value}
    content = [{"index": index, "type": "text", "text": text}]
    return {"id": message, "object": "thread.message.delta", "delta": {"content": content}}


def refusal_delta(message: str, value: str, *, index: int) -> Json:
    """One piece of what the model says in place of an answer."""
    content = [{"index": index, "type": "refusal", "refusal": value}]
    return {"id": message, "object": "thread.message.delta", "delta": {"content": content}}


def annotation_delta(message: str, annotation: Mapping[str, Any], *, index: int, number: int) -> Json:
    """One annotation of a text, the `number`th."""
    content = [{"index": index, "type": "text", "text": {"annotations": [{"index": number, **annotation}]}}]
    return {"id": message, "object": "thread.message.delta", "delta": {"content": content}}


def call_delta(step: str, index: int, kind: str, said: Mapping[str, Any], id: str | None = None) -> Json:  # noqa: A002
    """A piece of a call, its `kind` being the tool's type; the first one has the call's id."""
    call: Json = {"index": index, **({"id": id} if id else {}), "type": kind, kind: dict(said)}
    details = {"type": "tool_calls", "tool_calls": [call]}
    return {"id": step, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def deleted(kind: str, id: str) -> Json:  # noqa: A002
    """`kind` is the object's word, such as `thread.message`."""
    return {"id": id, "object": f"{kind}.deleted", "deleted": True}


def added_usage(before: Mapping[str, Any] | None, more: Mapping[str, Any] | None) -> Json | None:
    """Two generations' tokens together; None where neither told. Details are added field by field."""
    if before is None or more is None:
        found = before if more is None else more
        return dict(found) if found is not None else None
    total: Json = dict(before)
    for name, value in more.items():
        known = total.get(name)
        if type(value) is dict:
            total[name] = added_usage(known if type(known) is dict else None, value)
        elif type(value) is int:
            total[name] = value + (known if type(known) is int else 0)
    return total
