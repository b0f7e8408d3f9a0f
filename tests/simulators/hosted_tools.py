"""A vendor of no API in particular whose models have hosted tools, files and vector stores, and the model API in front
of it: what it sends over the wire are `Delta`s themselves, one JSON object a line.

The tests of what the engine makes of them need no vendor's words; those have suites of their own.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.engine.models import generation
from gateway.engine.models.failures import failure_of_answer
from gateway.engine.models.generation import Delta, Failure, Finish, Generation, Json, ModelRequest
from gateway.engine.models.model_api import MakeCallId, ModelApi
from gateway.engine.models.offers import Fault, Offer, faults, require
from tests.simulators.base import Simulator
from tests.simulators.openai import OPENAI
from tests.simulators.threads_server.ask import Ask, read_json
from tests.simulators.threads_server.files import Content
from tests.simulators.threads_server.refusal import Refused
from tests.simulators.threads_server.server import Reply, json_reply

ALL_TOOLS = Offer(hosted_tools=frozenset({"file_search", "code_interpreter"}), image_files=True)


@dataclass(frozen=True)
class LineApi:
    offer: Offer = ALL_TOOLS

    def faults(self, body: Json) -> tuple[Fault, ...]:
        return faults(body, self.offer)

    def build(self, asked: Generation) -> ModelRequest:
        require(asked, self.offer)
        return ModelRequest("/generate", orjson.dumps(described(asked)))

    def read(self, make_call_id: MakeCallId) -> LineReader:
        return LineReader()

    def failure(self, status: int, headers: Mapping[str, str], raw: bytes, *, now: float) -> Failure:
        return failure_of_answer(status, headers, raw, now=now)


class LineReader:
    def __init__(self) -> None:
        self.is_over = False
        self.is_answered = False
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Delta]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = [_delta(orjson.loads(line)) for line in lines]
        self.is_over = any(isinstance(each, Finish | Failure) for each in found)
        return found

    def close(self) -> list[Delta]:
        return self.cut("the answer had no end")

    def cut(self, why: str) -> list[Delta]:
        self.is_over = True
        return [Failure("server_error", why)]


def described(value: Any) -> Any:
    """As JSON; an object of ours says what it `is`."""
    if dataclasses.is_dataclass(value):
        fields = {each.name: described(getattr(value, each.name)) for each in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    return [described(each) for each in value] if isinstance(value, tuple | list) else value


def _delta(said: Json) -> Delta:
    made: Delta = getattr(generation, said.pop("is"))(**said)
    return made


APIS: Mapping[str, ModelApi] = {
    "all": LineApi(),
    "none": LineApi(Offer()),
    "code": LineApi(Offer(hosted_tools=frozenset({"code_interpreter"}))),
}


@dataclass(eq=False)
class HostedTools(Simulator):
    """`containers` has the bytes of files by `container/file`, of every account."""

    dialect_of_models: str = "all"
    containers: dict[str, bytes] = field(default_factory=dict, init=False)
    _script: deque[Sequence[Delta]] = field(default_factory=deque, init=False)

    @property
    def settings(self) -> Mapping[str, str]:
        return {"serve": "threads", "model_api": "lines", "dialect": self.dialect_of_models}

    def script(self, *answers: Sequence[Delta]) -> None:
        """Answer the next generations so; those that come after say that they are done."""
        self._script.extend(answers)

    @property
    def asked(self) -> list[Json]:
        """All generations, as they were asked for."""
        return [read_json(each.body) for each in self.journal if each.path.endswith("/generate")]

    def reply(self, ask: Ask) -> Reply:
        path, account = ask.path.removeprefix(self.dialect.prefix), self.keys.get(self.key_of(ask) or "")
        if account is not None and path == "/generate":
            said = self._script.popleft() if self._script else (generation.TextDelta(0, "Done."), Finish("stop"))
            lines = tuple(orjson.dumps(described(each)) + b"\n" for each in said)
            return Reply(200, {"Content-Type": "text/event-stream"}, events=lines)
        if account is not None and path.startswith("/containers/"):
            try:
                return self._of_container(ask.method, path)
            except Refused as refused:
                return json_reply(refused.status, self.dialect.error_body(refused), {})
        return super().reply(ask)

    def _of_container(self, method: str, path: str) -> Reply:
        _, _, container, _, file, *content = path.split("/")
        place = f"{container}/{file}"
        if place not in self.containers:
            raise Refused(f"Container with id '{container}' not found.", status=404)
        data = self.containers[place]
        if content:
            read = Content(data, "text/csv", "sum.csv")
            return Reply(200, {"Content-Type": read.content_type}, read.data)
        if method == "DELETE":
            del self.containers[place]
            return Reply(200, {})
        told = {"id": file, "object": "container.file", "created_at": 1747848842, "bytes": len(data)}
        more = {"container_id": container, "path": "/mnt/data/sum.csv", "source": "assistant"}
        return json_reply(200, {**told, **more}, {})


def hosted_tools(keys: Mapping[str, str], *, dialect: str = "all") -> HostedTools:
    return HostedTools(OPENAI, keys=keys, dialect_of_models=dialect)
