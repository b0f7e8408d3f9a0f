"""One generation while it is written down: the message and the steps that it makes, and the events that tell of them.
Pure.

What is begun has to be in the store before it is told; what ends is stored and told at once by whoever uses this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway import codec
from gateway.engine import objects
from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    Json,
    RefusalDelta,
    TextDelta,
    Usage,
)
from gateway.engine.store.ids import mint
from gateway.engine.store.publisher import Told
from gateway.engine.store.work import Change
from gateway.engine.transcript import INTERNAL


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
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def as_object(self) -> Json:
        return objects.function_call(self.id, self.name, "".join(self.arguments))


class Writing:
    """`take` what the model says, in order; then one of the endings. `clock` tells seconds since 1970."""

    def __init__(self, run: Json, clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._changes: list[Change] = []
        self._told: list[Told] = []
        self._message: Json | None = None
        self._message_step: Json | None = None
        self._parts: list[_Part] = []
        self._places: dict[tuple[str, int], int] = {}
        """Kind and index of a content, as the model counts → its place in the message."""
        self._calls_step: Json | None = None
        self._calls: list[_Call] = []
        self._round: list[Json] = []
        self.usage: Json | None = None
        self.end: Finish | Failure | None = None

    def take(self, deltas: Sequence[Delta]) -> Written:
        """What begins with them, and what they tell."""
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
                self._parts[self._place("text", index)].annotations.append(value)
            case CallBegun(_, call_id, name):
                self._begin_call(call_id, name)
            case CallArguments(index, text):
                self._calls[index].arguments.append(text)
                self._tell_call(index, {"arguments": text})
            case Carried(api, value):
                self._round.append({"carried": {"api": api, "value": value}})
            case Usage():
                self.usage = as_usage(delta)
            case Finish() | Failure():
                self.end = delta
            case _:
                raise NotImplementedError(f"no model API has {type(delta).__name__} yet")

    # --- the message -----------------------------------------------------------------------------------------------
    def _add_text(self, kind: str, index: int, text: str) -> None:
        place = self._place(kind, index)
        part = self._parts[place]
        is_first = not part.pieces
        part.pieces.append(text)
        message = self._begun_message()["id"]
        if kind == "refusal":
            delta = objects.refusal_delta(message, text, index=place)
        else:
            delta = objects.text_delta(message, text, index=place, is_first=is_first)
        self._tell("thread.message.delta", delta)

    def _place(self, kind: str, index: int) -> int:
        if (place := self._places.get((kind, index))) is None:
            place = self._places[kind, index] = len(self._parts)
            self._parts.append(_Part(kind))
        return place

    def _begun_message(self) -> Json:
        if self._message is None:
            now = int(self._clock())
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
    def _begin_call(self, call_id: str, name: str) -> None:
        if self._calls_step is None:
            self._calls_step = self._begin_step(objects.calls_details([]))
        self._calls.append(_Call(call_id, name))
        self._round.append({"call": call_id})
        self._tell_call(len(self._calls) - 1, {"name": name, "arguments": "", "output": None}, call_id)

    def _tell_call(self, index: int, function: Json, call_id: str | None = None) -> None:
        assert self._calls_step is not None
        self._tell("thread.run.step.delta", objects.call_delta(self._calls_step["id"], index, function, call_id))

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

    def said(self) -> Json:
        """All that the model has said, for the audit trail."""
        return {"content": self._content(), "tool_calls": self.calls, "usage": self.usage}

    def wait(self) -> Written:
        """The message is whole, the calls wait for their outputs."""
        now = int(self._clock())
        self._end_message(objects.whole_reply, now, "completed", usage=None)
        assert self._calls_step is not None
        internal = {INTERNAL: {"round": self._round, "usage": self.usage}}
        self._changes.append(
            Change("update", "step", {**self._calls_step, "step_details": self._details(), **internal})
        )
        return self.take(())

    def complete(self) -> Written:
        """The message is whole, and there were no calls."""
        self._end_message(objects.whole_reply, int(self._clock()), "completed", usage=self.usage)
        return self.take(())

    def cut(self, status: str, why: str, last_error: Json | None = None) -> Written:
        """What is there stays, and is not whole. `status` is what becomes of the steps, `why` how the run ended or of
        what it was incomplete."""
        now = int(self._clock())

        def cut_reply(begun: Json, content: Sequence[Json], *, now: int) -> Json:
            return objects.cut_reply(begun, content, why=why, now=now)

        self._end_message(cut_reply, now, status, usage=self.usage, last_error=last_error)
        if self._calls_step is not None:
            usage = self.usage if self._message is None else None
            self._end_step(self._calls_step, status, now, usage=usage, details=self._details(), last_error=last_error)
        return self.take(())

    def _details(self) -> Json:
        return objects.calls_details(self.calls)

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
        self._changes.append(Change("commit", "message", message))
        self._tell(f"thread.message.{message['status']}", message)
        self._end_step(self._message_step, status, now, usage=usage, last_error=last_error)

    def _end_step(
        self,
        begun: Json,
        status: str,
        now: int,
        *,
        usage: Json | None,
        details: Json | None = None,
        last_error: Json | None = None,
    ) -> None:
        step = objects.ended_step(begun, status, now=now, usage=usage, details=details, last_error=last_error)
        self._changes.append(Change("commit", "step", step))
        self._tell(f"thread.run.step.{status}", step)


def answered_step(waiting: Json, outputs: Sequence[Mapping[str, str | None]], *, now: int) -> Json:
    """A step of calls with what the caller said they gave, as it is stored."""
    given = {each["tool_call_id"]: each.get("output") or "" for each in outputs}
    calls = [
        {**call, "function": {**call["function"], "output": given.get(call["id"], "")}}
        for call in waiting["step_details"]["tool_calls"]
    ]
    usage = waiting.get(INTERNAL, {}).get("usage")
    return objects.ended_step(waiting, "completed", now=now, usage=usage, details=objects.calls_details(calls))


def shown_step(stored: Json) -> Json:
    """A step as callers see it."""
    return {name: value for name, value in stored.items() if name != INTERNAL}


def as_usage(told: Usage) -> Json:
    """As recorded runs have it."""
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "total_tokens": told.total_tokens,
        "prompt_token_details": {"cached_tokens": told.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": told.reasoning_tokens},
    }
