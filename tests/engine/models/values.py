"""Short ways to write turns."""

from __future__ import annotations

from typing import Any

from gateway.engine.models.generation import Generation, Message, Part, Round, Text, ToolCall, ToolOutput, Turn


def user(*parts: str | Part) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: str | Part) -> Message:
    return Message("assistant", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def round_of(*items: Any, **outputs: str | None) -> Round:
    """`call_a="7"` is a call with that output, None one that nobody answered; `items` come before the calls."""
    calls = (ToolCall(name, "weather", '{"city":"Bonn"}') for name in outputs)
    answered = (ToolOutput(name, output) for name, output in outputs.items() if output is not None)
    return Round((*items, *calls), tuple(answered))


def generation(*turns: Turn, **said: Any) -> Generation:
    return Generation(model="gpt-x", turns=turns, **said)
