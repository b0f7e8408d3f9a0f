"""Every model API against the simulator of every vendor that speaks it: what is asked is accepted, and what is answered
is read as it was meant, wherever the bytes are parted and wherever they end. No sockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import (
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Failure,
    Finish,
    Function,
    Generation,
    RefusalDelta,
    Round,
    Text,
    TextDelta,
    ToolCall,
    ToolOutput,
    Turn,
    Usage,
)
from gateway.engine.models.model_api import ModelApi
from gateway.vendors import VENDORS
from tests.engine.models.values import assistant, generation, round_of, user
from tests.simulators import find_models
from tests.simulators.answers import Answer, Breaks, Calls, Declines, Says, Thinks, calls, says
from tests.simulators.base import KEYS
from tests.simulators.model_simulator import ModelSimulator
from tests.simulators.threads_server.ask import Ask
from tests.simulators.threads_server.server import Reply

KEY = next(iter(KEYS))
SIMULATORS = find_models()
ADD = Function("add", "Adds", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}})
LOOK = Function("look", None, {"type": "object", "properties": {}})
ASKED = generation(user("What is 1 + 2?"), tools=(ADD, LOOK), max_completion_tokens=300)


@dataclass
class Model:
    """A simulated model and the API in which it is asked."""

    api: ModelApi
    simulator: ModelSimulator
    greeting: Mapping[str, str]

    def ask(self, asked: Generation) -> Reply:
        request = self.api.build(asked)
        path, _, query = request.path.partition("?")
        headers = CIMultiDict({"Content-Type": "application/json", **self.greeting, **request.headers})
        names = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        prefix = self.simulator.dialect.prefix
        reply = self.simulator.reply(Ask("POST", prefix + path, names, headers, request.body))
        assert reply.status == 200, reply.payload
        return reply

    def answers(self, answer: Answer, asked: Generation = ASKED) -> Reply:
        self.simulator.script(answer)
        return self.ask(asked)

    def read(self, *pieces: bytes, is_cut: bool = False) -> list[Delta]:
        reader = self.api.read("call_{}".format)
        deltas = [delta for piece in pieces for delta in reader.feed(piece)]
        return deltas + (reader.cut("cut off") if is_cut else reader.close())


@pytest.fixture(params=sorted(SIMULATORS))
async def model(request: pytest.FixtureRequest) -> Model:
    simulator = SIMULATORS[request.param](keys=KEYS)
    assert isinstance(simulator, ModelSimulator)
    dialects = MODEL_APIS[simulator.settings["model_api"]]
    api = dialects[simulator.settings["dialect"]] if "dialect" in simulator.settings else next(iter(dialects.values()))
    greeting = await VENDORS[simulator.dialect.name].present(KEY, simulator.options_of("acme")).headers()
    return Model(api, simulator, greeting)


# --- what was meant --------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """What all deltas of an answer come to."""

    text: str
    refusal: str
    calls: list[tuple[str, str]]
    end: str


def heard(deltas: Sequence[Delta]) -> Heard:
    """Fails if they do not keep the promised order."""
    assert [isinstance(delta, Finish | Failure) for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    usage = [place for place, delta in enumerate(deltas) if isinstance(delta, Usage)]
    assert usage in ([], [len(deltas) - 2])
    made: list[tuple[str, str]] = []
    for delta in deltas:
        if isinstance(delta, CallBegun):
            assert delta.index == len(made)
            assert delta.id
            made.append((delta.name, ""))
        elif isinstance(delta, CallArguments):
            assert delta.text
            name, arguments = made[delta.index]
            made[delta.index] = (name, arguments + delta.text)
        elif isinstance(delta, TextDelta | RefusalDelta):
            assert delta.text
    end = deltas[-1]
    return Heard(
        text="".join(delta.text for delta in deltas if isinstance(delta, TextDelta)),
        refusal="".join(delta.text for delta in deltas if isinstance(delta, RefusalDelta)),
        calls=made,
        end=end.reason if isinstance(end, Finish) else "failed",
    )


SUM = ('{"a":', " 1, ", '"b": 2}')
ANSWERS: Mapping[str, tuple[Answer, Heard]] = {
    "text": (says("Hel", "lo"), Heard("Hello", "", [], "stop")),
    "unicode": (says("Zoë 𝄞", " – \u2028", "日本"), Heard("Zoë 𝄞 – \u2028日本", "", [], "stop")),
    "nothing": (Answer(()), Heard("", "", [], "stop")),
    "thoughts": (Answer((Thinks("Hm."), Says("Three"))), Heard("Three", "", [], "stop")),
    "a call": (calls(Calls("add", SUM)), Heard("", "", [("add", '{"a":1,"b":2}')], "tool_calls")),
    "two calls": (
        calls(Calls("add", SUM), Calls("look")),
        Heard("", "", [("add", '{"a":1,"b":2}'), ("look", "{}")], "tool_calls"),
    ),
    "words and a call": (
        Answer((Thinks("Hm."), Says("Let me see."), Calls("look"))),
        Heard("Let me see.", "", [("look", "{}")], "tool_calls"),
    ),
    "the limit": (says("Hel", "lo", reason="length"), Heard("Hello", "", [], "length")),
    "the filter": (says("Hel", "lo", reason="content_filter"), Heard("Hello", "", [], "content_filter")),
    "an error": (
        Answer((Says("Hello"), Breaks({"message": "gone", "type": "server_error"}))),
        Heard("Hello", "", [], "failed"),
    ),
}


def plain(told: Heard) -> Heard:
    """Vendors that send arguments as objects say nothing of the spaces in them."""
    return Heard(told.text, told.refusal, [(name, words.replace(" ", "")) for name, words in told.calls], told.end)


@pytest.mark.parametrize(("answer", "meant"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_as_it_was_meant(answer: Answer, meant: Heard, model: Model) -> None:
    reply = model.answers(answer)
    whole = model.read(reply.payload)
    assert plain(heard(whole)) == meant
    by_byte = model.read(*(bytes([byte]) for byte in reply.payload))
    assert heard(by_byte) == heard(whole)


def test_declined_is_told_as_such_or_as_text(model: Model) -> None:
    """Not every API knows refusals; the words are heard in any case."""
    told = heard(model.read(model.answers(Answer((Declines("I'd "), Declines("rather not")))).payload))
    assert told.refusal + told.text in ("I'd rather not", "")
    assert told.end in ("stop", "content_filter")


def prefixes(payload: bytes, events: Sequence[bytes]) -> Iterator[bytes]:
    """At the end of each event and at some places within."""
    ends, end = set(range(0, len(payload), 31)), 0
    for event in events:
        end += len(event)
        ends |= {end - 1, end}
    return (payload[:each] for each in sorted(ends) if each < len(payload))


@pytest.mark.parametrize("name", ["text", "words and a call"])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "ended"])
def test_an_answer_that_ends_early_is_never_taken_for_a_whole_one(name: str, is_cut: bool, model: Model) -> None:
    """Unless nothing was missing but figures and the farewell: then it is the whole."""
    answer, meant = ANSWERS[name]
    reply = model.answers(answer)
    for prefix in prefixes(reply.payload, reply.events or ()):
        told = plain(heard(model.read(prefix, is_cut=is_cut)))
        if told.end != "failed" and told != meant:
            # A server that says neither a reason nor a farewell ends as it always does.
            assert not is_cut
            assert getattr(model.api, "ends_unsaid", False)
        assert meant.text.startswith(told.text)
        assert len(told.calls) <= len(meant.calls)
        assert all(whole.startswith(part) for (_, part), (_, whole) in zip(told.calls, meant.calls, strict=False))


def test_garbage_in_the_middle_fails_or_is_passed_over(model: Model) -> None:
    reply = model.answers(says("Hel", "lo"))
    events = list(reply.events or ())
    for garbage in (b"data: {broken\n\n", b"data: [1]\n\n", b"data: null\n\n", b"\xff\xfe\n\n", b"event: odd\n\n"):
        for place in range(len(events)):
            told = heard(model.read(b"".join([*events[:place], garbage, *events[place:]])))
            assert "Hello".startswith(told.text)
            assert told.end == "failed" or told.text == "Hello"


def test_the_rounds_of_a_run_go_back_as_they_came(model: Model) -> None:
    """Calls with what was carried are accepted again by a vendor that checks them, outputs in any order, twice."""
    rounds: list[Round] = []
    for number in range(2):
        deltas = model.read(
            model.answers(
                Answer((Thinks(f"Hm {number}."), Calls("add", SUM), Calls("look"))),
                generation(user("What is 1 + 2?"), *rounds, tools=(ADD, LOOK)),
            ).payload
        )
        rounds.append(_as_round(deltas))
    asked = generation(user("What is 1 + 2?"), *rounds, tools=(ADD, LOOK))
    assert heard(model.read(model.answers(says("Three"), asked).payload)).text == "Three"
    for output in (b"it is 3", b"nothing there"):
        assert model.api.build(asked).body.count(output) == 2


CALLED = round_of(call_a="it is 3")
THREADS: Mapping[str, tuple[Turn, ...]] = {
    "nobody has said a thing": (),
    "nothing but empty words": (user(""), assistant("")),
    "the assistant began, and spoke last": (assistant("Good day."), assistant("Well?")),
    "the assistant spoke twice before it called": (user("1 + 2?"), assistant("Hm."), assistant("So."), CALLED),
    "an id that comes again": (
        user("1 + 2?"),
        CALLED,
        assistant("3"),
        user("And now?"),
        CALLED,
        assistant("3"),
        user("?"),
    ),
    "ids no other vendor would give": (user("1 + 2?"), round_of(**{"": "3", "a b": "4", "é" * 70: "5"}), user("?")),
    "calls that nobody answered": (user("1 + 2?"), round_of(Text("Let me see."), call_a=None), user("And now?")),
    "a run that ended behind its outputs": (user("1 + 2?"), CALLED, user("And now?")),
    "arguments that are none": (user("?"), Round((ToolCall("call_a", "add", "[1"),), (ToolOutput("call_a", ""),))),
}


@pytest.mark.parametrize("instructions", ["", "Be brief."])
@pytest.mark.parametrize("thread", THREADS.values(), ids=THREADS)
def test_a_thread_of_any_form_is_accepted(thread: tuple[Turn, ...], instructions: str, model: Model) -> None:
    """And every call in it is known by an id of its own."""
    asked = replace(generation(*thread, instructions=instructions, tools=(ADD, LOOK)), model="gemini-3-pro")
    assert heard(model.read(model.answers(says("Hello"), asked).payload)).text == "Hello"


def _as_round(deltas: Sequence[Delta]) -> Round:
    items: list[Any] = []
    arguments: dict[int, str] = {}
    for delta in deltas:
        if isinstance(delta, CallArguments):
            arguments[delta.index] = arguments.get(delta.index, "") + delta.text
    for delta in deltas:
        if isinstance(delta, CallBegun):
            items.append(ToolCall(delta.id, delta.name, arguments[delta.index]))
        elif isinstance(delta, Carried):
            items.append(delta)
    ids = [item.id for item in items if isinstance(item, ToolCall)]
    return Round(tuple(items), (ToolOutput(ids[1], "nothing there"), ToolOutput(ids[0], "it is 3")))
