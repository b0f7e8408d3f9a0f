"""What is stored of a thread, as the turns that a model is asked with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway import codec
from gateway.engine import objects
from gateway.engine.models.generation import (
    Carried,
    Function,
    Generation,
    HostedTool,
    ImageFile,
    ImageUrl,
    Json,
    Message,
    NamedTool,
    Part,
    RefusalText,
    Round,
    RoundItem,
    Text,
    ToolCall,
    ToolOutput,
    Turn,
)
from gateway.engine.models.history import Fitted, Truncation, estimate_text_tokens, fit
from gateway.engine.resources import Resources, attached_files, hosted_tool

INTERNAL = "_"
"""Member of a stored step that callers do not see: `round`, what the model said in which order, and `usage`, the tokens
of that generation. One step of a generation has it: the one that waits for outputs, else the last of hosted calls, else
that of the message before a pause."""


@dataclass(frozen=True)
class Transcript:
    """A thread as a run finds it: what was said before it, and its own rounds. `waiting` is the step that waits for
    outputs; `used` what the rounds took; `attached` are the files that messages give to the code interpreter."""

    turns: Sequence[Turn]
    rounds: Sequence[Round]
    waiting: Json | None
    used: Json | None
    attached: Sequence[str] = ()


def read_transcript(history: Sequence[Json], run: str) -> Transcript:
    """`history` are messages and steps, oldest first."""
    steps = [each for each in history if each["object"] == "thread.run.step" and _items(each)]
    messages = {each["id"]: each for each in history if each["object"] == "thread.message"}
    in_rounds = {item.get("message") for step in steps for item in _items(step)}
    turns: list[Turn] = []
    rounds: list[Round] = []
    for each in history:
        if each["object"] == "thread.message":
            # What the run itself had begun and was torn from goes back to no model.
            if each["id"] not in in_rounds and each.get("run_id") != run:
                turns.append(Message(each["role"], tuple(_parts(each["content"]))))
        elif _items(each) and each["status"] != "failed":
            made = as_round(_items(each), messages, each["step_details"].get("tool_calls", ()))
            if each["run_id"] == run:
                rounds.append(made)
            else:
                turns.append(made)
    own = [step for step in steps if step["run_id"] == run and step["status"] != "failed"]
    used: Json | None = None
    for step in own:
        used = objects.added_usage(used, step[INTERNAL].get("usage"))
    waiting = next((step for step in own if step["status"] == "in_progress"), None)
    return Transcript(turns, rounds, waiting, used, attached_files(messages.values(), "code_interpreter"))


def with_round(transcript: Transcript, made: Round, used: Json | None) -> Transcript:
    """The model paused after it said this."""
    return replace(transcript, rounds=[*transcript.rounds, made], used=used)


def with_outputs(transcript: Transcript, outputs: Sequence[Mapping[str, Any]]) -> Transcript:
    """The last round is answered; in the order of its calls, as it will be read from the store."""
    *before, last = transcript.rounds
    given = {each["tool_call_id"]: each.get("output") or "" for each in outputs}
    answered = tuple(ToolOutput(call.id, given.get(call.id, "")) for call in last.calls)
    return replace(transcript, rounds=[*before, Round(last.items, answered)], waiting=None)


def _items(step: Json) -> Sequence[Json]:
    items: Sequence[Json] = step.get(INTERNAL, {}).get("round", ())
    return items


def as_round(said: Sequence[Json], messages: Mapping[str, Json], calls: Iterable[Json]) -> Round:
    """What one generation said, from how it is kept; `messages` are by id, `calls` may be the vendor's own too.

    Where a message was deleted, nothing is carried: it belongs to words that are gone. What calls need is.
    """
    functions = {call["id"]: call["function"] for call in calls if call["type"] == "function"}
    is_whole = bool(functions) or all(item["message"] in messages for item in said if "message" in item)
    items: list[RoundItem] = []
    for item in said:
        if "message" in item and (message := messages.get(item["message"])) is not None:
            items += [part for part in _parts(message["content"]) if isinstance(part, Text | RefusalText)]
        elif "call" in item and (call := functions.get(item["call"])) is not None:
            items.append(ToolCall(item["call"], call["name"], call["arguments"]))
        elif "carried" in item and is_whole:
            items.append(Carried(**item["carried"]))
    given = {name: call["output"] for name, call in functions.items() if call.get("output") is not None}
    return Round(tuple(items), tuple(ToolOutput(name, output) for name, output in given.items()))


def _parts(content: Iterable[Json]) -> Iterable[Part]:
    for part in content:
        match part["type"]:
            case "text":
                yield Text(part["text"]["value"])
            case "refusal":
                yield RefusalText(part["refusal"])
            case "image_url":
                yield ImageUrl(part["image_url"]["url"], part["image_url"].get("detail"))
            case "image_file":
                yield ImageFile(part["image_file"]["file_id"], part["image_file"].get("detail"))


def left_of(limit: int | None, used: Json | None, name: str) -> int | None:
    """What a run has left of one of its two limits."""
    return None if limit is None else limit - int((used or {}).get(name, 0))


def fit_transcript(transcript: Transcript, run: Json) -> Fitted:
    """The turns that go into the next generation."""
    tools = codec.dumps(run["tools"]).decode() if run["tools"] else ""
    wanted = run["truncation_strategy"]
    return fit(
        transcript.turns,
        transcript.rounds,
        truncation=Truncation(wanted["type"], wanted["last_messages"]),
        spoken_for_tokens=estimate_text_tokens(run["instructions"] or "") + estimate_text_tokens(tools),
        max_prompt_tokens=left_of(run["max_prompt_tokens"], transcript.used, "prompt_tokens"),
    )


def as_generation(
    run: Json, said: Json, turns: Sequence[Turn], *, model: str, left: int | None, resources: Resources
) -> Generation:
    """`said` is what somebody said (`objects.said`), `model` as the provider calls it, `left` of the completion,
    `resources` what hosted tools work on."""
    choice = said.get("tool_choice")
    wanted = said.get("response_format")
    return Generation(
        model=model,
        turns=tuple(turns),
        instructions=run["instructions"] or "",
        tools=tuple(_tool(tool, resources) for tool in run["tools"]),
        tool_choice=_named(choice) if type(choice) is dict else choice,
        parallel_tool_calls=said.get("parallel_tool_calls"),
        temperature=said.get("temperature"),
        top_p=said.get("top_p"),
        response_format=wanted if type(wanted) is dict else None,
        reasoning_effort=said.get("reasoning_effort"),
        max_completion_tokens=left,
    )


def _tool(tool: Json, resources: Resources) -> Function | HostedTool:
    if tool["type"] != "function":
        return hosted_tool(tool, resources)
    function = tool["function"]
    return Function(function["name"], function.get("description"), function.get("parameters"), function.get("strict"))


def _named(choice: Json) -> NamedTool:
    return NamedTool(choice["type"], (choice.get("function") or {}).get("name"))
