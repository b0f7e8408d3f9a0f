"""One generation while it is written down: the message and the steps that it makes, and the events that tell of them.
Pure.

What begins and ends has to be in the store before it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway import codec
from gateway.engine import objects
from gateway.engine.container_files import with_one_id
from gateway.engine.hosted_calls import HostedCalling, beginning, without_contents
from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    HostedCall,
    Json,
    RefusalDelta,
    Round,
    TextDelta,
    Usage,
)
from gateway.engine.store.ids import mint
from gateway.engine.store.publisher import Told
from gateway.engine.store.work import Change
from gateway.engine.transcript import INTERNAL, as_round


class Written(NamedTuple):
    """What is to be stored, and what is to be told then."""

    changes: Sequence[Change] = ()
    told: Sequence[Told] = ()


@dataclass
class _Part:
    """One content of the message: a text, or a refusal."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)


@dataclass
class _HostedStep:
    """A step of calls that the vendor runs; `step` is as it was stored last."""

    step: Json
    calls: list[HostedCalling] = field(default_factory=list)
    is_done: bool = False

    def as_object(self) -> Json:
        details = objects.calls_details([call.as_object() for call in self.calls])
        return {**self.step, "step_details": details}


@dataclass
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def as_object(self) -> Json:
        return objects.function_call(self.id, self.name, "".join(self.arguments))


class Writing:
    """`take` what the model says, in order; then one of the endings. `clock` tells seconds since 1970.

    Of a message and a step of hosted calls one is open at a time: what begins ends the other, so that they follow each
    other as the model made them. A step of the caller's functions stays open until they are answered.
    """

    def __init__(self, run: Json, clock: Callable[[], float], *, shows_contents: bool = False) -> None:
        """`shows_contents`: events tell the contents of what a file search found."""
        self._run = run
        self._clock = clock
        self._shows_contents = shows_contents
        self._changes: list[Change] = []
        self._told: list[Told] = []
        self._message: Json | None = None
        self._message_step: Json | None = None
        self._parts: list[_Part] = []
        self._places: dict[tuple[str, int], int] = {}
        """Kind and index of a content, as the model counts → its place in the message."""
        self._hosted_step: _HostedStep | None = None
        """The last of them, done or not."""
        self._hosted: dict[int, tuple[_HostedStep, HostedCalling]] = {}
        """Calls as the model counts."""
        self._calls_step: Json | None = None
        self._calls: list[_Call] = []
        self._call_places: dict[int, int] = {}
        self._round: list[Json] = []
        self._whole: dict[str, Json] = {}
        """Messages that have ended, by id."""
        self._spoken_step: Json | None = None
        """Of the last message that has ended."""
        self.usage: Json | None = None
        self.end: Finish | Failure | None = None

    def take(self, deltas: Sequence[Delta]) -> Written:
        """What begins and ends with them, and what they tell."""
        for delta in deltas:
            self._take(delta)
        written = Written(self._changes, self._told)
        self._changes, self._told = [], []
        return written

    def _take(self, delta: Delta) -> None:
        match delta:
            case TextDelta(index, text):
                self._add_text("text", index, text)
            case RefusalDelta(index, text):
                self._add_text("refusal", index, text)
            case Annotation(index, value):
                self._annotate(index, value)
            case CallBegun(index, call_id, name):
                self._begin_call(index, call_id, name)
            case CallArguments(index, text):
                place = self._call_places[index]
                self._calls[place].arguments.append(text)
                self._tell_call(place, {"arguments": text})
            case HostedCall():
                self._take_hosted(delta)
            case Carried(api, value):
                self._round.append({"carried": {"api": api, "value": value}})
            case Usage():
                self.usage = as_usage(delta)
            case Finish() | Failure():
                self.end = delta

    # --- the message -----------------------------------------------------------------------------------------------
    def _add_text(self, kind: str, index: int, text: str) -> None:
        message = self._begun_message()["id"]
        place = self._place(kind, index)
        part = self._parts[place]
        is_first = not part.pieces
        part.pieces.append(text)
        if kind == "refusal":
            delta = objects.refusal_delta(message, text, index=place)
        else:
            delta = objects.text_delta(message, text, index=place, is_first=is_first)
        self._tell("thread.message.delta", delta)

    def _annotate(self, index: int, value: Json) -> None:
        place = self._places.get(("text", index))
        if self._message is None or place is None:
            return  # of a text that has ended, which the order of deltas rules out
        said = {name: with_one_id(each) if name == "file_path" else each for name, each in value.items()}
        annotations = self._parts[place].annotations
        delta = objects.annotation_delta(self._message["id"], said, index=place, number=len(annotations))
        annotations.append(said)
        self._tell("thread.message.delta", delta)

    def _place(self, kind: str, index: int) -> int:
        if (place := self._places.get((kind, index))) is None:
            place = self._places[kind, index] = len(self._parts)
            self._parts.append(_Part(kind))
        return place

    def _begun_message(self) -> Json:
        if self._message is None:
            now = int(self._clock())
            self._end_hosted(now, "completed")
            self._message = objects.reply(self._run, id=mint("message"), now=now)
            self._message_step = self._begin_step(objects.message_details(self._message["id"]))
            self._changes.append(Change("begin", "message", self._message))
            self._tell("thread.message.created", self._message)
            self._tell("thread.message.in_progress", self._message)
            self._round.append({"message": self._message["id"]})
        return self._message

    def _content(self) -> list[Json]:
        return [
            objects.refusal_part("".join(part.pieces))
            if part.kind == "refusal"
            else objects.text_part("".join(part.pieces), part.annotations)
            for part in self._parts
        ]

    # --- tool calls ------------------------------------------------------------------------------------------------
    def _begin_call(self, index: int, call_id: str, name: str) -> None:
        if self._calls_step is None:
            self._end_hosted(int(self._clock()), "completed")
            self._calls_step = self._begin_step(objects.calls_details([]))
        place = self._call_places[index] = len(self._calls)
        self._calls.append(_Call(call_id, name))
        self._round.append({"call": call_id})
        self._tell_call(place, {"name": name, "arguments": "", "output": None}, call_id)

    def _tell_call(self, place: int, function: Json, call_id: str | None = None) -> None:
        assert self._calls_step is not None
        delta = objects.call_delta(self._calls_step["id"], place, "function", function, call_id)
        self._tell("thread.run.step.delta", delta)

    def _take_hosted(self, delta: HostedCall) -> None:
        is_first = delta.index not in self._hosted
        step, call = self._begin_hosted(delta) if is_first else self._hosted[delta.index]
        said = call.take(delta.delta)
        if step.is_done:
            step.step = step.as_object()
            self._changes.append(Change("commit", "step", step.step))
        said = {**beginning(call.type), **said} if is_first else said
        shown = said if self._shows_contents else without_contents({call.type: said})[call.type]
        told = objects.call_delta(step.step["id"], call.place, call.type, shown, call.id if is_first else None)
        self._tell("thread.run.step.delta", told)

    def _begin_hosted(self, delta: HostedCall) -> tuple[_HostedStep, HostedCalling]:
        if self._hosted_step is None or self._hosted_step.is_done:
            self._end_message(objects.whole_reply, int(self._clock()), "completed", usage=None)
            self._hosted_step = _HostedStep(self._begin_step(objects.calls_details([])))
        step = self._hosted_step
        call = HostedCalling(delta.id, delta.type, len(step.calls))
        step.calls.append(call)
        self._hosted[delta.index] = step, call
        return step, call

    def _begin_step(self, details: Json) -> Json:
        step = objects.step(self._run, details, id=mint("step"), now=int(self._clock()))
        self._changes.append(Change("begin", "step", step))
        self._tell("thread.run.step.created", step)
        self._tell("thread.run.step.in_progress", step)
        return step

    def _tell(self, name: str, data: Json) -> None:
        self._told.append((name, codec.dumps(data)))

    # --- endings ---------------------------------------------------------------------------------------------------
    @property
    def calls(self) -> list[Json]:
        return [call.as_object() for call in self._calls]

    @property
    def round(self) -> Round:
        """What the model said, once the generation has ended, for the next one to hear."""
        return as_round(self._round, self._whole, self.calls)

    def said(self) -> Json:
        """All that the model has said, for the audit trail."""
        return {"content": self._content(), "tool_calls": self.calls, "usage": self.usage}

    def wait(self) -> Written:
        """The message is whole, the calls wait for their outputs."""
        now = int(self._clock())
        self._end_open(now, usage=None)
        assert self._calls_step is not None
        details = objects.calls_details(self.calls)
        self._changes.append(Change("update", "step", self._with_round({**self._calls_step, "step_details": details})))
        return self.take(())

    def complete(self) -> Written:
        """The message is whole, and no call waits. What was carried is kept where the vendor ran tools: a later run's
        model hears what they found."""
        self._end_open(int(self._clock()), usage=self.usage)
        if self._hosted_step is not None:
            self._changes.append(Change("commit", "step", self._with_round(self._hosted_step.step)))
        return self.take(())

    def pause(self) -> Written:
        """What was said so far is whole, and the model is asked to go on."""
        self._end_open(int(self._clock()), usage=self.usage)
        keeper = self._hosted_step.step if self._hosted_step is not None else self._spoken_step
        if keeper is not None:
            self._changes.append(Change("commit", "step", self._with_round(keeper)))
        return self.take(())

    def cut(self, status: str, why: str, last_error: Json | None = None) -> Written:
        """What is there stays, and is not whole. `status` is what becomes of the steps, `why` how the run ended or of
        what it was incomplete."""
        now = int(self._clock())
        usage = self.usage

        def cut_reply(begun: Json, content: Sequence[Json], *, now: int) -> Json:
            return objects.cut_reply(begun, content, why=why, now=now)

        is_hosting = self._hosted_step is not None and not self._hosted_step.is_done
        if self._message is not None or is_hosting:
            self._end_hosted(now, status, usage=usage, last_error=last_error)
            self._end_message(cut_reply, now, status, usage=usage, last_error=last_error)
            usage = None
        if self._calls_step is not None:
            details = objects.calls_details(self.calls)
            self._end_step(self._calls_step, status, now, usage=usage, details=details, last_error=last_error)
        return self.take(())

    def _with_round(self, step: Json) -> Json:
        return {**step, INTERNAL: {"round": self._round, "usage": self.usage}}

    def _end_open(self, now: int, *, usage: Json | None) -> None:
        self._end_hosted(now, "completed", usage=usage)
        self._end_message(objects.whole_reply, now, "completed", usage=usage)

    def _end_hosted(self, now: int, status: str, *, usage: Json | None = None, last_error: Json | None = None) -> None:
        hosted = self._hosted_step
        if hosted is not None and not hosted.is_done:
            hosted.is_done = True
            hosted.step = self._end_step(hosted.as_object(), status, now, usage=usage, last_error=last_error)

    def _end_message(
        self,
        ended: Callable[..., Json],
        now: int,
        status: str,
        *,
        usage: Json | None,
        last_error: Json | None = None,
    ) -> None:
        if self._message is None or self._message_step is None:
            return
        message = ended(self._message, self._content(), now=now)
        self._whole[message["id"]] = message
        self._changes.append(Change("commit", "message", message))
        self._tell(f"thread.message.{message['status']}", message)
        self._spoken_step = self._end_step(self._message_step, status, now, usage=usage, last_error=last_error)
        self._message, self._message_step, self._parts, self._places = None, None, [], {}

    def _end_step(
        self,
        begun: Json,
        status: str,
        now: int,
        *,
        usage: Json | None,
        details: Json | None = None,
        last_error: Json | None = None,
    ) -> Json:
        step = objects.ended_step(begun, status, now=now, usage=usage, details=details, last_error=last_error)
        self._changes.append(Change("commit", "step", step))
        self._tell(f"thread.run.step.{status}", shown_step(step, with_contents=self._shows_contents))
        return step


def answered_step(waiting: Json, outputs: Sequence[Mapping[str, str | None]], *, now: int) -> Json:
    """A step of calls with what the caller said they gave, as it is stored."""
    given = {each["tool_call_id"]: each.get("output") or "" for each in outputs}
    calls = [
        {**call, "function": {**call["function"], "output": given.get(call["id"], "")}}
        for call in waiting["step_details"]["tool_calls"]
    ]
    usage = waiting.get(INTERNAL, {}).get("usage")
    return objects.ended_step(waiting, "completed", now=now, usage=usage, details=objects.calls_details(calls))


def shown_step(stored: Json, *, with_contents: bool = False) -> Json:
    """A step as callers see it; `with_contents` of what a file search found."""
    shown = {name: value for name, value in stored.items() if name != INTERNAL}
    if stored["type"] == "tool_calls" and not with_contents:
        calls = stored["step_details"]["tool_calls"]
        shown["step_details"] = objects.calls_details([without_contents(call) for call in calls])
    return shown


def as_usage(told: Usage) -> Json:
    """As recorded runs have it."""
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "total_tokens": told.total_tokens,
        "prompt_token_details": {"cached_tokens": told.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": told.reasoning_tokens},
    }
