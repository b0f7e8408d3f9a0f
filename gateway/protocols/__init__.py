"""Versions of the protocol, translated as pure functions from JSON to JSON. The reference is v2: its callers and
providers are the rule, and a translation stands wherever one of the two speaks v1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gateway.operations import Operation, Version
from gateway.protocols import v1

Json = dict[str, Any]


def _refuse_nothing(operation: Operation, query: Iterable[str]) -> None:
    """Every operation and every query parameter has a word on the other side."""


def _same_request(operation: Operation, document: Json) -> Json:
    return document


def _same_answer(document: Json) -> Json:
    return document


def _same_event(name: str, data: Json) -> tuple[str, Json]:
    return name, data


@dataclass(frozen=True)
class Translation:
    """How a caller is understood by a provider, and how the provider's answers are by the caller."""

    check: Callable[[Operation, Iterable[str]], None] = _refuse_nothing
    """Raises GatewayError 400 for an operation, or a query parameter by name, that the provider's version lacks."""
    request: Callable[[Operation, Json], Json] = _same_request
    """Raises GatewayError 400, naming the parameter, for what the provider's version cannot say."""
    answer: Callable[[Json], Json] = _same_answer
    event: Callable[[str, Json], tuple[str, Json]] = _same_event


SAME = Translation()
"""Both speak one version."""

V1_TO_V2 = Translation(request=v1.request_up, answer=v1.answer_down, event=v1.event_down)
V2_TO_V1 = Translation(check=v1.check_down, request=v1.request_down, answer=v1.answer_up, event=v1.event_up)


def between(caller: Version, provider: Version) -> Translation:
    """The translation for a caller and a provider."""
    if caller == provider:
        return SAME
    return V1_TO_V2 if caller == "v1" else V2_TO_V1
