"""How vendors of Responses stream an answer: names, order and fields of events as in the streams that
`gateway.engine.models.responses_items` names, read 2026-11-22. Where a vendor's were not seen, it streams as OpenAI."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.demo.echo import DONE, Asked
from tests.simulators.answers import (
    Answer,
    Breaks,
    Calls,
    Cites,
    Declines,
    Interprets,
    Links,
    Piece,
    Says,
    Searches,
    Thinks,
)
from tests.simulators.threads_server.refusal import Json
from tests.simulators.threads_server.server import encode_json

_PIXEL = "data:image/png;base64,iVBORw0KGgo="


@dataclass(frozen=True)
class Manner:
    """How one vendor streams. The defaults are OpenAI's."""

    names: bool = True
    """Whether events have a line with their name."""
    says_done: bool = False
    error: Literal["wrapped", "bare", "failed"] = "wrapped"
    """In `error`, as fields of the event, or only in a response that failed."""
    thoughts: Literal["encrypted", "open"] = "encrypted"
    keeps_ids: bool = True
    """GitHub's proxy tells another id of an item in each event."""


MANNERS = {
    "openai": Manner(),
    "azure": Manner(error="failed"),
    "xai": Manner(),
    "open": Manner(names=False, says_done=True, error="bare", thoughts="open", keeps_ids=False),
}


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


Seal = Callable[[str], str]
"""The id of an item → its encrypted content."""


@dataclass
class Stream:
    """One answer, as events. `seal` None: nobody asked for encrypted thoughts."""

    manner: Manner
    body: Json
    asked: Asked
    now: int
    seal: Seal | None
    id: str = field(default_factory=lambda: new_id("resp"))
    container: str = field(default_factory=lambda: new_id("cntr"))
    output: list[Json] = field(default_factory=list)
    _count: int = 0
    _shown: list[str] = field(default_factory=list)

    def of(self, answer: Answer) -> Iterator[bytes]:
        yield self.event("response.created", response=self.response("in_progress"))
        yield self.event("response.in_progress", response=self.response("in_progress"))
        for pieces in _grouped(answer.pieces):
            match pieces[0]:
                case Breaks(error):
                    yield from self.broken(error)
                    return
                case Thinks(text):
                    yield from self.thought(text)
                case Calls() as call:
                    yield from self.call(call)
                case Searches() as search:
                    yield from self.search(search)
                case Interprets() as code:
                    yield from self.interpret(code)
                case _:
                    yield from self.message(pieces)
        yield from self.end(answer)

    def event(self, kind: str, **fields: Any) -> bytes:
        data = encode_json({"type": kind, "sequence_number": self._count, **fields})
        self._count += 1
        return (f"event: {kind}\n".encode() if self.manner.names else b"") + b"data: " + data + b"\n\n"

    def response(self, status: str, **more: Any) -> Json:
        asked = {name: self.body.get(name) for name in ("max_output_tokens", "instructions", "text", "temperature")}
        head = {"id": self.id, "object": "response", "created_at": self.now, "status": status, "error": None}
        tools = [_filled_in(tool) for tool in self.body.get("tools") or []]
        told = {"model": self.asked.model, "output": list(self.output), "tools": tools, "store": self.body.get("store")}
        return {**head, "incomplete_details": None, **asked, **told, "usage": None, **more}

    # --- items -----------------------------------------------------------------------------------------------------
    def item(self, begun: Json, done: Json, between: Iterator[bytes]) -> Iterator[bytes]:
        place = len(self.output)
        yield self.event("response.output_item.added", output_index=place, item=self.renamed(begun))
        yield from between
        self.output.append({**begun, **done})
        yield self.event("response.output_item.done", output_index=place, item=self.renamed(self.output[-1]))

    def renamed(self, item: Json) -> Json:
        return item if self.manner.keeps_ids else {**item, "id": new_id("capture")}

    def at(self, item: Json) -> Json:
        return {"item_id": self.renamed(item)["id"], "output_index": len(self.output)}

    def thought(self, text: str) -> Iterator[bytes]:
        item: Json = {"id": new_id("rs"), "type": "reasoning", "summary": []}
        done: Json = {}
        if self.manner.thoughts == "open":
            done["content"] = [{"type": "reasoning_text", "text": text}]
        elif self.seal is not None:
            item["encrypted_content"] = "not the one that counts"
            done["encrypted_content"] = self.seal(item["id"])
        yield from self.item(item, done, iter(()))

    def call(self, call: Calls) -> Iterator[bytes]:
        item: Json = {"id": new_id("fc"), "type": "function_call", "status": "in_progress", "arguments": ""}
        item |= {"call_id": call.id or new_id("call"), "name": call.name}
        whole = "".join(call.arguments)

        def between() -> Iterator[bytes]:
            for piece in call.arguments:
                yield self.event("response.function_call_arguments.delta", **self.at(item), delta=piece)
            yield self.event("response.function_call_arguments.done", **self.at(item), arguments=whole)

        yield from self.item(item, {"status": "completed", "arguments": whole}, between())

    def search(self, search: Searches) -> Iterator[bytes]:
        item: Json = {"id": new_id("fs"), "type": "file_search_call", "status": "in_progress", "queries": []}
        item["results"] = None
        found = [
            {"attributes": {}, "file_id": each.file_id, "filename": each.file_name, "score": each.score}
            | {"text": each.text}
            for each in search.found
        ]
        told = found if "file_search_call.results" in (self.body.get("include") or []) else None

        def between() -> Iterator[bytes]:
            for state in ("in_progress", "searching", "completed"):
                yield self.event(f"response.file_search_call.{state}", **self.at(item))

        yield from self.item(item, {"status": "completed", "queries": list(search.queries), "results": told}, between())

    def interpret(self, code: Interprets) -> Iterator[bytes]:
        item: Json = {"id": new_id("ci"), "type": "code_interpreter_call", "status": "in_progress", "code": ""}
        item |= {"container_id": self.container, "outputs": []}
        outputs: list[Json] | None = [{"type": "logs", "logs": each} for each in code.logs]
        outputs += [{"type": "image", "url": _PIXEL} for _ in code.shows]
        if "code_interpreter_call.outputs" not in (self.body.get("include") or []):
            outputs = None
        self._shown += code.shows
        whole = "".join(code.code)

        def between() -> Iterator[bytes]:
            yield self.event("response.code_interpreter_call.in_progress", **self.at(item))
            for piece in code.code:
                yield self.event("response.code_interpreter_call_code.delta", **self.at(item), delta=piece)
            yield self.event("response.code_interpreter_call_code.done", **self.at(item), code=whole)
            yield self.event("response.code_interpreter_call.interpreting", **self.at(item))
            yield self.event("response.code_interpreter_call.completed", **self.at(item))

        yield from self.item(item, {"status": "completed", "code": whole, "outputs": outputs}, between())

    # --- messages --------------------------------------------------------------------------------------------------
    def message(self, pieces: list[Piece]) -> Iterator[bytes]:
        item: Json = {"id": new_id("msg"), "type": "message", "status": "in_progress", "content": []}
        item["role"] = "assistant"
        contents: list[Json] = []

        def between() -> Iterator[bytes]:
            for place, part in enumerate(_contents(pieces)):
                content = yield from self.content(item, place, part)
                contents.append(content)

        yield from self.item(item, {"status": "completed", "content": contents}, between())

    def content(self, item: Json, place: int, pieces: list[Piece]) -> Generator[bytes, None, Json]:
        """Returns the content as it is in the end."""
        kind = "refusal" if isinstance(pieces[0], Declines) else "output_text"
        name = "refusal" if kind == "refusal" else "text"
        part: Json = {"type": kind, name: ""} | ({"annotations": [], "logprobs": []} if name == "text" else {})
        where = {**self.at(item), "content_index": place}
        yield self.event("response.content_part.added", **where, part=part)
        said, cited = "", []
        for piece in pieces:
            if isinstance(piece, Cites):
                cited.append({"type": "file_citation", "file_id": piece.file_id, "filename": piece.file_name})
                cited[-1]["index"] = len(said)
                yield self.annotation(where, cited)
                continue
            text = f"sandbox:/mnt/data/{piece.file_name}" if isinstance(piece, Links) else piece.text
            yield self.event(f"response.{kind}.delta", **where, delta=text)
            said += text
        start = 0
        for piece in pieces if name == "text" else []:
            if isinstance(piece, Links):
                start = said.index(f"sandbox:/mnt/data/{piece.file_name}", start)
                end = start + len(f"sandbox:/mnt/data/{piece.file_name}")
                cited.append(self.made(piece.file_id, piece.file_name, start, end))
                yield self.annotation(where, cited)
        while name == "text" and self._shown:
            shown = self._shown.pop(0)
            cited.append(self.made(shown, f"{shown}.png", 0, 0))
            yield self.annotation(where, cited)
        whole = {**part, name: said} | ({"annotations": cited} if name == "text" else {})
        yield self.event(f"response.{kind}.done", **where, **{name: said})
        yield self.event("response.content_part.done", **where, part=whole)
        return whole

    def made(self, file_id: str, name: str, start: int, end: int) -> Json:
        where = {"container_id": self.container, "start_index": start, "end_index": end}
        return {"type": "container_file_citation", "file_id": file_id, "filename": name, **where}

    def annotation(self, where: Json, cited: list[Json]) -> bytes:
        told = {"annotation_index": len(cited) - 1, "annotation": cited[-1]}
        return self.event("response.output_text.annotation.added", **where, **told)

    # --- ends ------------------------------------------------------------------------------------------------------
    def broken(self, error: Json) -> Iterator[bytes]:
        if self.manner.error == "wrapped":
            yield self.event("error", error=error)
        elif self.manner.error == "bare":
            yield self.event("error", **{name: error.get(name) for name in ("code", "message", "param")})
            return
        told = {"code": error.get("code"), "message": error.get("message")}
        yield self.event("response.failed", response=self.response("failed", error=told))

    def end(self, answer: Answer) -> Iterator[bytes]:
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.reason or "")
        status, details = ("incomplete", {"reason": why}) if why else ("completed", None)
        response = self.response(status, incomplete_details=details, usage=usage_of(answer, self.asked))
        yield self.event(f"response.{status}", response=response)
        if self.manner.says_done:
            yield DONE


def _grouped(pieces: tuple[Piece, ...]) -> list[list[Piece]]:
    """What belongs to one item."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        spoken = isinstance(piece, Says | Declines | Cites | Links)
        if spoken and groups and isinstance(groups[-1][0], Says | Declines | Cites | Links):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _contents(pieces: list[Piece]) -> list[list[Piece]]:
    """What belongs to one content of a message."""
    contents: list[list[Piece]] = []
    for piece in pieces:
        if contents and isinstance(piece, Declines) == isinstance(contents[-1][0], Declines):
            contents[-1].append(piece)
        else:
            contents.append([piece])
    return contents


def _filled_in(tool: Json) -> Json:
    """As OpenAI repeats it."""
    if tool["type"] != "file_search":
        return tool
    ranking = {"ranker": "auto", "score_threshold": 0.0, **tool.get("ranking_options", {})}
    return {"filters": None, "max_num_results": 20, **tool, "ranking_options": ranking}


def usage_of(answer: Answer, asked: Asked) -> Json:
    prompt, completion = answer.usage or (asked.prompt_tokens, _words_in(answer))
    thought = sum(len(piece.text.split()) for piece in answer.pieces if isinstance(piece, Thinks))
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": min(thought, completion)},
        "total_tokens": prompt + completion,
    }


def _words_in(answer: Answer) -> int:
    texts = [piece.text for piece in answer.pieces if isinstance(piece, Says | Declines | Thinks)]
    texts += ["".join((call.name, " ", *call.arguments)) for call in answer.calls]
    return sum(len(text.split()) for text in texts)
