"""Versions of the protocol, each as pure functions from JSON to JSON. The reference is v2: what callers of another
version say is translated up to it, and what providers answer down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.operations import Operation
from gateway.protocols import v1

Json = dict[str, Any]


def _same_request(operation: Operation, document: Json) -> Json:
    return document


def _same_answer(document: Json) -> Json:
    return document


def _same_event(name: str, data: Json) -> tuple[str, Json]:
    return name, data


@dataclass(frozen=True)
class Version:
    """How callers of one version are understood and answered. `name` is what stands in `OpenAI-Beta`."""

    name: str
    request_up: Callable[[Operation, Json], Json] = _same_request
    answer_down: Callable[[Json], Json] = _same_answer
    event_down: Callable[[str, Json], tuple[str, Json]] = _same_event


V1 = Version("assistants=v1", v1.request_up, v1.answer_down, v1.event_down)
V2 = Version("assistants=v2")
VERSIONS: Mapping[str, Version] = {version.name: version for version in (V1, V2)}
