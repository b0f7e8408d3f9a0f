"""Between the two versions of the protocol: requests are lifted from 1 to 2, answers lowered from 2 to 1.

Plain functions of JSON. What they take was checked before (`openai_v1`) or made by a world.
"""

from collections.abc import Callable, Mapping

from tests.simulators.threads_server.refusal import Json

QUOTE = "the words that were found"

# ---- up: from version 1 to version 2 ----------------------------------------------------------------------


def lift(body: Json) -> Json:
    lifted = dict(body)
    if body.get("tools"):
        lifted["tools"] = [lift_tool(tool) for tool in body["tools"]]
    if isinstance(body.get("tool_choice"), dict):
        lifted["tool_choice"] = lift_tool(body["tool_choice"])
    for name in ("messages", "additional_messages"):
        if body.get(name):
            lifted[name] = [lift_message(message) for message in body[name]]
    if body.get("thread"):
        lifted["thread"] = lift(body["thread"])
    return lifted


def lift_tool(tool: Json) -> Json:
    return {"type": "file_search"} if tool["type"] == "retrieval" else tool


def lift_message(message: Json) -> Json:
    lifted = {name: value for name, value in message.items() if name != "file_ids"}
    tools = [{"type": "file_search"}, {"type": "code_interpreter"}]
    lifted["attachments"] = [{"file_id": file_id, "tools": tools} for file_id in message.get("file_ids") or []]
    return lifted


def resources(file_ids: list[str]) -> Json:
    """The list itself is kept with the code interpreter; a store of its own makes the files searchable."""
    stores: Json = {"vector_stores": [{"file_ids": file_ids}]} if file_ids else {"vector_store_ids": []}
    return {"code_interpreter": {"file_ids": file_ids}, "file_search": stores}


# ---- down: from version 2 to version 1 --------------------------------------------------------------------


def lower(record: Json) -> Json:
    make: Callable[[Json], Json] = LOWERED.get(record.get("object", ""), dict)
    return make(record)


def lower_assistant(assistant: Json) -> Json:
    names = ("id", "object", "created_at", "name", "description", "model", "instructions", "metadata")
    lowered = {name: assistant[name] for name in names}
    return lowered | {"tools": lower_tools(assistant["tools"]), "file_ids": file_ids_of(assistant)}


def lower_thread(thread: Json) -> Json:
    return without(thread, "tool_resources")


def lower_message(message: Json) -> Json:
    content = [lower_part(part) for part in message["content"]]
    return without(message, "attachments") | {"content": content, "file_ids": file_ids_of(message)}


def lower_message_delta(event: Json) -> Json:
    delta = event["delta"] | {"content": [lower_part(part) for part in event["delta"]["content"]]}
    return event | {"delta": delta}


def lower_run(run: Json) -> Json:
    lowered = without(run, "tool_resources", "reasoning_effort", "parallel_tool_calls")
    lowered |= {"tools": lower_tools(run["tools"]), "file_ids": file_ids_of(run)}
    if isinstance(run["tool_choice"], dict):
        [lowered["tool_choice"]] = lower_tools([run["tool_choice"]])
    if run["status"] == "incomplete":
        lowered |= {"status": "completed", "completed_at": run["started_at"]}
    return lowered | {"usage": lower_usage(run["usage"])}


def lower_step(step: Json) -> Json:
    return step | {"step_details": lower_details(step["step_details"]), "usage": lower_usage(step["usage"])}


def lower_step_delta(event: Json) -> Json:
    return event | {"delta": {"step_details": lower_details(event["delta"]["step_details"])}}


LOWERED: Mapping[str, Callable[[Json], Json]] = {
    "assistant": lower_assistant,
    "thread": lower_thread,
    "thread.message": lower_message,
    "thread.message.delta": lower_message_delta,
    "thread.run": lower_run,
    "thread.run.step": lower_step,
    "thread.run.step.delta": lower_step_delta,
}


def lower_tools(tools: list[Json]) -> list[Json]:
    return [{"type": "retrieval"} if tool["type"] == "file_search" else tool for tool in tools]


def lower_usage(usage: Json | None) -> Json | None:
    return usage and without(usage, "prompt_token_details", "completion_tokens_details")


def lower_part(part: Json) -> Json:
    annotations = part.get("text", {}).get("annotations")
    if not annotations:
        return part
    return part | {"text": part["text"] | {"annotations": [lower_annotation(each) for each in annotations]}}


def lower_annotation(annotation: Json) -> Json:
    if "file_citation" not in annotation:
        return annotation
    return annotation | {"file_citation": annotation["file_citation"] | {"quote": QUOTE}}


def lower_details(details: Json) -> Json:
    if "tool_calls" not in details:
        return details
    return details | {"tool_calls": [lower_call(call) for call in details["tool_calls"]]}


def lower_call(call: Json) -> Json:
    if call["type"] != "file_search":
        return call
    return without(call, "file_search") | {"type": "retrieval", "retrieval": {}}


def file_ids_of(record: Json) -> list[str]:
    """The files of an assistant, of a run, or of a message."""
    if "attachments" in record:
        return [attachment["file_id"] for attachment in record["attachments"]]
    return list(record["tool_resources"].get("code_interpreter", {}).get("file_ids", []))


def without(record: Json, *names: str) -> Json:
    return {name: value for name, value in record.items() if name not in names}
