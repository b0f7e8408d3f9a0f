"""The output items of an answer of Responses, and the deltas they become. What happens to the answer as a whole is read
in `responses_stream`.

What was seen in recorded streams (vercel/ai's fixtures of OpenAI, Azure, xAI and GitHub's proxy; pydantic-ai's
cassettes; openai-python's types; all read 2026-11-22):

- an item is found by its `output_index`: GitHub's proxy gives it another id in each event
- `encrypted_content` of the item that was added is not the one that counts, that of the item that is done is
- a `file_citation` has no span of text, only the `index` "at which to insert the file citation", and comes when the
  text has got there. Callers of Threads expect a marker in the text (`【4:0†source】`) and replace it, so one is put in
- a `container_file_citation` has the span of its `sandbox:` path. That of an image that was only shown is from 0 to 0,
  and the image itself came before, as a `data:` URL among the outputs of its call. Which image is which follows from
  their order. Whether spans count characters or units of UTF-16 is unknown, so the path is looked for
- outputs and results come with the item that is done, if `include` asked for them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    HostedCall,
    Json,
    RefusalDelta,
    TextDelta,
)
from gateway.engine.models.model_api import MakeCallId

API = "responses"


class _Item:
    """One output item. `kind` is its type at the vendor."""

    __slots__ = ("is_done", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_done = False


class _Words:
    """One content of a message, a text or a refusal. `index` is its place among those of the answer, None until it says
    something. `length` counts the vendor's characters; `marks` are what was put between them: where, and how long."""

    __slots__ = ("cited", "index", "length", "marks", "pieces")

    def __init__(self) -> None:
        self.index: int | None = None
        self.pieces: list[str] = []
        self.length = 0
        self.marks: list[tuple[int, int]] = []
        self.cited = 0

    def told(self, place: int) -> int:
        """A place in the vendor's text → in ours."""
        return place + sum(length for before, length in self.marks if before <= place)


class _Message(_Item):
    __slots__ = ("contents",)

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.contents: dict[int, _Words] = {}


class _Call(_Item):
    """A call of a function, or of a tool that the vendor runs. `index` is None until it was begun."""

    __slots__ = ("container", "id", "index", "name", "offered", "pieces")

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.index: int | None = None
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        """Of arguments, or of code."""
        self.offered = ""
        """Arguments that came whole with the beginning."""
        self.container: str | None = None


_KINDS: Mapping[str, type[_Item]] = {
    "message": _Message,
    "function_call": _Call,
    "file_search_call": _Call,
    "code_interpreter_call": _Call,
}
_HOSTED = {"file_search_call": "file_search", "code_interpreter_call": "code_interpreter"}
_WORDS: Mapping[str, tuple[str, type[TextDelta] | type[RefusalDelta]]] = {
    "output_text": ("text", TextDelta),
    "refusal": ("refusal", RefusalDelta),
}


class Items:
    """Those of one answer. The methods that take an event give the deltas it adds; see `EVENTS`."""

    def __init__(self, make_call_id: MakeCallId) -> None:
        self._make_call_id = make_call_id
        self._by_index: dict[int, _Item] = {}
        self._by_id: dict[str, _Item] = {}
        self._functions: list[_Call] = []
        self._contents = 0
        self._calls = 0
        self._marked = 0
        self._ids: set[str] = set()
        self._shown: list[tuple[_Call, int]] = []
        """Images that have no file yet: the call, and the place among its outputs."""
        self._ranking: Json | None = None

    @property
    def has_functions(self) -> bool:
        return bool(self._functions)

    def know_tools(self, tools: Any) -> None:
        """As the vendor repeats them when it begins: with what it filled in."""
        for tool in _objects(tools):
            if tool.get("type") == "file_search" and type(tool.get("ranking_options")) is dict:
                told = tool["ranking_options"]
                defaults = {"ranker": "auto", "score_threshold": 0.0}
                self._ranking = {name: told.get(name, default) for name, default in defaults.items()}

    # --- items -----------------------------------------------------------------------------------------------------
    def begin(self, event: Json) -> list[Delta]:
        told = event.get("item")
        if type(told) is not dict or type(kind := told.get("type")) is not str:
            return []
        item = self._known(event, kind)
        if item is None or item.is_done or (isinstance(item, _Call) and told.get("call_id", item.id) != item.id):
            item = self._make(event.get("output_index"), told.get("id"), kind)
        return self._begin(item, told)

    def _begin(self, item: _Item, told: Json) -> list[Delta]:
        if isinstance(item, _Call):
            return self._begin_call(item, told)
        phase = told.get("phase") if isinstance(item, _Message) else None
        # gpt-5.3-codex and later want it back with what was said (openai-python's EasyInputMessageParam).
        return [Carried(API, {"phase": phase})] if type(phase) is str else []

    def end(self, event: Json) -> list[Delta]:
        """An item that is done: what has not been told of it, and what has to go back."""
        told = event.get("item")
        if type(told) is not dict or type(kind := told.get("type")) is not str:
            return []
        item, deltas = self._known(event, kind), list[Delta]()
        if item is None:
            item = self._make(event.get("output_index"), told.get("id"), kind)
            deltas = self._begin(item, told)
        elif item.is_done:
            return []
        item.is_done = True
        if isinstance(item, _Message):
            return deltas + self._end_message(item, told)
        if isinstance(item, _Call):
            return deltas + (self._end_hosted(item, told) if kind in _HOSTED else self._end_function(item, told))
        return deltas + _carried(told)

    def end_all(self, output: Any) -> list[Delta]:
        """What an answer that is done holds beyond its events: all of it, if there were none. Calls of functions, if
        no event told of any: places and ids may be others than before, but a call must not get lost."""
        output = output if type(output) is list else []
        had_none, had_calls = not self._by_index, self.has_functions

        def is_left(place: int, told: Any) -> bool:
            item = self._by_index.get(place)
            is_begun = item is not None and not item.is_done
            is_call = type(told) is dict and told.get("type") == "function_call"
            return had_none or is_begun or (is_call and not had_calls)

        left = [(place, told) for place, told in enumerate(output) if is_left(place, told)]
        return [delta for place, told in left for delta in self.end({"output_index": place, "item": told})]

    def close(self) -> list[Delta]:
        """The rest of calls of functions that the model is done with: a name that never came, arguments left out."""
        deltas: list[Delta] = []
        for call in self._functions:
            deltas += self._begin_function(call)
            if not call.pieces and call.index is not None:
                deltas.append(CallArguments(call.index, call.offered or "{}"))
        return deltas

    def _make(self, index: Any, told_id: Any, kind: str) -> _Item:
        item = _KINDS.get(kind, _Item)(kind)
        self._by_index[index if type(index) is int else len(self._by_index)] = item
        if type(told_id) is str and told_id:
            self._by_id[told_id] = item
        if kind == "function_call":
            assert isinstance(item, _Call)
            self._functions.append(item)
        return item

    def _known(self, event: Json, kind: str) -> _Item | None:
        """The item that an event is about."""
        told = event.get("item")
        told_id = told.get("id") if type(told) is dict else event.get("item_id")
        index = event.get("output_index")
        if type(index) is int and index not in self._by_index:
            return None
        places = (self._by_index.get(index) if type(index) is int else None, self._by_id.get(str(told_id)))
        return next((item for item in places if item is not None and item.kind == kind), None)

    def _item(self, event: Json, kind: str) -> _Item:
        """The same, and a new one if nobody has told of its beginning."""
        return self._known(event, kind) or self._make(event.get("output_index"), event.get("item_id"), kind)

    # --- messages --------------------------------------------------------------------------------------------------
    def say(self, event: Json) -> list[Delta]:
        return self._tell(self._words(event), event.get("delta"), TextDelta)

    def decline(self, event: Json) -> list[Delta]:
        return self._tell(self._words(event), event.get("delta"), RefusalDelta)

    def cite(self, event: Json) -> list[Delta]:
        words, annotation = self._words(event), event.get("annotation")
        words.cited += 1
        return self._cite(words, annotation) if type(annotation) is dict else []

    def _words(self, event: Json) -> _Words:
        message = self._item(event, "message")
        assert isinstance(message, _Message)
        place = event.get("content_index")
        return message.contents.setdefault(place if type(place) is int else 0, _Words())

    def _tell(self, words: _Words, text: Any, delta: type[TextDelta] | type[RefusalDelta]) -> list[Delta]:
        if type(text) is not str or not text:
            return []
        words.pieces.append(text)
        words.length += len(text)
        return [delta(self._place(words), text)]

    def _place(self, words: _Words) -> int:
        if words.index is None:
            words.index = self._contents
            self._contents += 1
        return words.index

    def _end_message(self, message: _Message, told: Json) -> list[Delta]:
        deltas: list[Delta] = []
        for place, content in enumerate(_objects(told.get("content"))):
            if known := _WORDS.get(str(content.get("type"))):
                name, delta = known
                words = message.contents.setdefault(place, _Words())
                deltas += self._end_words(words, content.get(name), content.get("annotations"), delta)
        return deltas

    def _end_words(
        self, words: _Words, text: Any, annotations: Any, delta: type[TextDelta] | type[RefusalDelta]
    ) -> list[Delta]:
        """What is left of a text, its citations where they belong. What was told already stays."""
        if type(text) is not str or not text.startswith("".join(words.pieces)):
            return []
        left = _objects(annotations)[words.cited :]
        citations = [each for each in left if each.get("type") == "file_citation"]
        links = [each for each in left if each.get("type") != "file_citation"]
        deltas: list[Delta] = []
        for citation in sorted(citations, key=_index_of):
            deltas += self._tell(words, text[words.length : max(words.length, _index_of(citation))], delta)
            deltas += self._cite(words, citation)
        deltas += self._tell(words, text[words.length :], delta)
        return deltas + [each for link in links for each in self._cite(words, link)]

    # --- citations -------------------------------------------------------------------------------------------------
    def _cite(self, words: _Words, annotation: Json) -> list[Delta]:
        file_id, kind = annotation.get("file_id"), annotation.get("type")
        if type(file_id) is not str:
            return []
        if kind == "file_citation":
            return self._mark(words, file_id)
        if kind != "container_file_citation":
            return []
        file = {"file_id": file_id, "container_id": annotation.get("container_id")}
        start, end = (annotation.get(name) for name in ("start_index", "end_index"))
        if type(start) is not int or type(end) is not int or start >= end:
            return self._give(words, file, annotation)
        return [_link(words, self._place(words), start, end, file, annotation)]

    def _mark(self, words: _Words, file_id: str) -> list[Delta]:
        index = self._place(words)
        text = f"【{index}:{self._marked}†source】"
        self._marked += 1
        start = words.told(words.length)
        words.marks.append((words.length, len(text)))
        span = {"text": text, "start_index": start, "end_index": start + len(text)}
        value = {"type": "file_citation", **span, "file_citation": {"file_id": file_id}}
        return [TextDelta(index, text), Annotation(index, value)]

    def _give(self, words: _Words, file: Json, annotation: Json) -> list[Delta]:
        """An image that was shown has its file now. A file that is no image of any call is a link to nowhere: a text
        that is empty would be found between any two characters by those who replace it."""
        shown = next((each for each in self._shown if each[0].container == file["container_id"]), None)
        if shown is None:
            path = {"text": _path(annotation), "start_index": 0, "end_index": 0}
            return [Annotation(self._place(words), {"type": "file_path", **path, "file_path": file})]
        self._shown.remove(shown)
        call, place = shown
        return [_hosted(call, {"outputs": [{"index": place, "type": "image", "image": file}]})]

    # --- functions -------------------------------------------------------------------------------------------------
    def argue(self, event: Json) -> list[Delta]:
        call = self._item(event, "function_call")
        assert isinstance(call, _Call)
        return self._argue(call, event.get("delta"))

    def _begin_call(self, call: _Call, told: Json) -> list[Delta]:
        if call.kind != "function_call":
            return self._begin_hosted(call, told)
        name, told_id, arguments = (told.get(field) for field in ("name", "call_id", "arguments"))
        call.name = call.name or (name if type(name) is str else "")
        call.id = call.id or (told_id if type(told_id) is str else "")
        call.offered = call.offered or (arguments if type(arguments) is str else "")
        return self._begin_function(call) if call.name else []

    def _begin_function(self, call: _Call) -> list[Delta]:
        if call.index is not None:
            return []
        self._number(call)
        assert call.index is not None
        begun: list[Delta] = [CallBegun(call.index, call.id, call.name)]
        return [*begun, CallArguments(call.index, "".join(call.pieces))] if call.pieces else begun

    def _argue(self, call: _Call, text: Any) -> list[Delta]:
        if type(text) is not str or not text:
            return []
        call.pieces.append(text)
        return [CallArguments(call.index, text)] if call.index is not None else []

    def _end_function(self, call: _Call, told: Json) -> list[Delta]:
        deltas = self._begin_call(call, told) if call.index is None else []
        return deltas + self._argue(call, _rest(call, told.get("arguments")))

    def _number(self, call: _Call) -> None:
        call.index = self._calls
        self._calls += 1
        if not call.id or call.id in self._ids:
            call.id = self._make_call_id(call.index)
        self._ids.add(call.id)

    # --- tools that the vendor runs --------------------------------------------------------------------------------
    def write_code(self, event: Json) -> list[Delta]:
        call = self._item(event, "code_interpreter_call")
        assert isinstance(call, _Call)
        return [*self._begin_hosted(call, event), *self._write_code(call, event.get("delta"))]

    def _begin_hosted(self, call: _Call, told: Json) -> list[Delta]:
        if call.index is not None:
            return []
        told_id = told.get("id") or told.get("item_id")
        call.id = told_id if type(told_id) is str else ""
        self._number(call)
        return [_hosted(call, {"input": ""} if call.kind == "code_interpreter_call" else {})]

    def _write_code(self, call: _Call, text: Any) -> list[Delta]:
        if type(text) is not str or not text:
            return []
        call.pieces.append(text)
        return [_hosted(call, {"input": text})]

    def _end_hosted(self, call: _Call, told: Json) -> list[Delta]:
        deltas = self._begin_hosted(call, told)
        if call.kind == "file_search_call":
            found = _results(told.get("results"))
            ranked = {"ranking_options": self._ranking} if self._ranking is not None else {}
            return [*deltas, *([_hosted(call, ranked | found)] if ranked or found else []), *_carried(told)]
        call.container = told.get("container_id")
        outputs = _objects(told.get("outputs"))
        logs = [
            {"index": place, "type": "logs", "logs": each["logs"]}
            for place, each in enumerate(outputs)
            if each.get("type") == "logs" and type(each.get("logs")) is str
        ]
        self._shown += [(call, place) for place, each in enumerate(outputs) if each.get("type") == "image"]
        deltas += self._write_code(call, _rest(call, told.get("code")))
        return [*deltas, *([_hosted(call, {"outputs": logs})] if logs else []), *_carried(told)]


EVENTS: Mapping[str, Callable[[Items, Json], list[Delta]]] = {
    "response.output_item.added": Items.begin,
    "response.output_item.done": Items.end,
    "response.output_text.delta": Items.say,
    "response.output_text.annotation.added": Items.cite,
    "response.refusal.delta": Items.decline,
    "response.function_call_arguments.delta": Items.argue,
    "response.code_interpreter_call_code.delta": Items.write_code,
}
"""The events that say something. What the others say, the item that is done says again."""


def _objects(value: Any) -> list[Json]:
    return [each for each in value if type(each) is dict] if type(value) is list else []


def _hosted(call: _Call, delta: Json) -> HostedCall:
    assert call.index is not None
    return HostedCall(call.index, call.id, _HOSTED[call.kind], delta)


def _rest(call: _Call, whole: Any) -> str:
    so_far = "".join(call.pieces)
    return whole[len(so_far) :] if type(whole) is str and whole.startswith(so_far) else ""


def _index_of(citation: Json) -> int:
    index = citation.get("index")
    return index if type(index) is int else 0


def _path(annotation: Json) -> str:
    return f"sandbox:/mnt/data/{annotation.get('filename') or annotation['file_id']}"


def _link(words: _Words, index: int, start: int, end: int, file: Json, annotation: Json) -> Annotation:
    said, path = "".join(words.pieces), _path(annotation)
    if not said[start:end].endswith(path) and (found := said.find(path)) >= 0:
        start, end = found, found + len(path)
    text = said[start:end] or path
    span = {"text": text, "start_index": words.told(start), "end_index": words.told(start) + len(text)}
    return Annotation(index, {"type": "file_path", **span, "file_path": file})


def _results(results: Any) -> Json:
    return {"results": list(map(_result, _objects(results)))} if type(results) is list else {}


def _result(told: Json) -> Json:
    content = [{"type": "text", "text": told["text"]}] if type(told.get("text")) is str else []
    named = {"file_id": told.get("file_id"), "file_name": told.get("filename"), "score": told.get("score")}
    return {**named, "content": content}


def _carried(told: Json) -> list[Delta]:
    """What goes back of an item, in the form in which it came: with its id, to which the encrypted content is bound
    (oh-my-pi#290; azure-sdk-for-net#59967: 400 without). Reasoning without content is only a name for what the vendor
    did not store, and refused (vercel/ai#7543). Images are not sent back: a `data:` URL can be megabytes."""
    if told["type"] == "reasoning" and not (told.get("encrypted_content") or told.get("content")):
        return []
    value = {name: each for name, each in told.items() if each is not None}
    if told["type"] == "code_interpreter_call":
        logs = [each for each in _objects(told.get("outputs")) if each.get("type") == "logs"]
        value |= {"code": told.get("code"), "outputs": logs}
    return [Carried(API, value)]
