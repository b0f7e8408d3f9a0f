"""What a model says becomes steps, messages and events in the order in which OpenAI had them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.engine import objects
from gateway.engine.models.generation import (
    Annotation,
    CallArguments,
    CallBegun,
    Carried,
    Delta,
    Finish,
    HostedCall,
    Message,
    Round,
    Text,
    TextDelta,
    ToolCall,
    Usage,
)
from gateway.engine.transcript import read_transcript
from gateway.engine.writing import Writing, Written, shown_step

NOW = 1_790_000_000
RUN = objects.run({}, objects.assistant({"id": "asst_1"}), id="run_1", thread="thread_1", now=NOW)

CODE = (
    HostedCall(0, "ci_1", "code_interpreter", {"input": "print("}),
    HostedCall(0, "ci_1", "code_interpreter", {"input": "1)"}),
    HostedCall(0, "ci_1", "code_interpreter", {"outputs": [{"index": 0, "type": "logs", "logs": "1"}]}),
    HostedCall(
        0,
        "ci_1",
        "code_interpreter",
        {
            "outputs": [
                {"index": 0, "type": "logs", "logs": "\n"},
                {"index": 1, "type": "image", "image": {"file_id": "cfile_1", "container_id": "cntr_1"}},
            ]
        },
    ),
)
FOUND = {"file_id": "file-1", "file_name": "a.txt", "score": 0.5, "content": [{"type": "text", "text": "secret"}]}
SEARCH = (
    HostedCall(0, "fs_1", "file_search", {}),
    HostedCall(0, "fs_1", "file_search", {"ranking_options": {"ranker": "auto"}, "results": [FOUND]}),
)
THOUGHT = Carried("responses", {"type": "reasoning"})
IMAGE = {"type": "image", "image": {"file_id": "file-cntr-6-cntr_1cfile_1"}}


class Script:
    """One generation: what is stored at the end, and what was told."""

    def __init__(self, *deltas: Delta, ending: str = "complete", shows_contents: bool = False, **how: Any) -> None:
        self.writing = Writing(RUN, lambda: NOW, shows_contents=shows_contents)
        self.stored: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._note(self.writing.take([*deltas, Usage(3, 2, 5)]))
        self._note(getattr(self.writing, ending)(**how))

    def _note(self, written: Written) -> None:
        for change in written.changes:
            self.stored[change.document["id"]] = orjson.loads(orjson.dumps(change.document))
        self.told += [(name, orjson.loads(data)) for name, data in written.told]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [each for each in self.stored.values() if each["object"] == "thread.run.step"]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [each for each in self.stored.values() if each["object"] == "thread.message"]

    @property
    def names(self) -> list[str]:
        """Of events, runs of the same one once."""
        names = [name.removeprefix("thread.") for name, _ in self.told]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    def deltas(self, name: str) -> list[dict[str, Any]]:
        return [data["delta"] for told, data in self.told if told == name]


def test_a_hosted_call_is_a_step_before_the_message() -> None:
    script = Script(*CODE, TextDelta(0, "It is 1."))
    assert script.names == [
        *("run.step.created", "run.step.in_progress", "run.step.delta", "run.step.completed"),
        *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress", "message.delta"),
        *("message.completed", "run.step.completed"),
    ]
    hosted, spoken = script.steps
    [call] = hosted["step_details"]["tool_calls"]
    assert call == {
        "id": "ci_1",
        "type": "code_interpreter",
        "code_interpreter": {"input": "print(1)", "outputs": [{"type": "logs", "logs": "1\n"}, IMAGE]},
    }
    assert (hosted["status"], hosted["usage"]) == ("completed", None)
    assert (spoken["type"], spoken["usage"]["total_tokens"]) == ("message_creation", 5)


def test_deltas_of_a_hosted_call_are_told_as_recorded() -> None:
    """The first has the id and empty members; each says only what is new."""
    told = [each["step_details"]["tool_calls"][0] for each in Script(*CODE).deltas("thread.run.step.delta")]
    kind = {"index": 0, "type": "code_interpreter"}
    assert told[0] == {**kind, "id": "ci_1", "code_interpreter": {"input": "print(", "outputs": []}}
    assert told[1] == {**kind, "code_interpreter": {"input": "1)"}}
    assert told[3]["code_interpreter"]["outputs"] == [
        {"index": 0, "type": "logs", "logs": "\n"},
        {"index": 1, **IMAGE},
    ]


@pytest.mark.parametrize("shows", [False, True])
def test_contents_that_were_found_are_told_only_to_who_asked(shows: bool) -> None:
    """They are stored all the same."""
    script = Script(*SEARCH, TextDelta(0, "Found."), shows_contents=shows)
    told = orjson.dumps([data for _, data in script.told])
    assert (b"secret" in told) is shows
    assert b"a.txt" in told
    [stored, _] = script.steps
    assert stored["step_details"]["tool_calls"][0]["file_search"]["results"] == [FOUND]
    assert (b"secret" in orjson.dumps(shown_step(stored))) is False
    assert shown_step(stored, with_contents=True)["step_details"] == stored["step_details"]


def test_calls_side_by_side_are_one_step() -> None:
    script = Script(SEARCH[0], HostedCall(1, "fs_2", "file_search", {"results": [FOUND]}), SEARCH[1])
    [step] = script.steps
    assert [each["id"] for each in step["step_details"]["tool_calls"]] == ["fs_1", "fs_2"]
    assert [each["file_search"]["results"] for each in step["step_details"]["tool_calls"]] == [[FOUND], [FOUND]]
    assert step["usage"]["total_tokens"] == 5
    places = [each["step_details"]["tool_calls"][0]["index"] for each in script.deltas("thread.run.step.delta")]
    assert places == [0, 1, 0]


def test_words_before_a_hosted_call_are_a_message_of_their_own() -> None:
    script = Script(TextDelta(0, "Let me see."), *CODE, TextDelta(1, "It is 1."))
    assert [each["type"] for each in script.steps] == ["message_creation", "tool_calls", "message_creation"]
    first, second = script.messages
    assert [first["content"][0]["text"]["value"], second["content"][0]["text"]["value"]] == ["Let me see.", "It is 1."]
    assert (first["status"], second["status"]) == ("completed", "completed")
    assert script.names.index("message.completed") < script.names.index("run.step.delta")
    assert len(second["content"]) == 1
    [delta] = script.deltas("thread.message.delta")[1:]
    assert delta["content"][0]["index"] == 0


def test_functions_beside_hosted_calls_are_a_step_that_waits() -> None:
    calls = (CallBegun(1, "call_1", "add"), CallArguments(1, "{}"))
    script = Script(*CODE, *calls, THOUGHT, ending="wait")
    hosted, waiting = script.steps
    assert (hosted["status"], waiting["status"]) == ("completed", "in_progress")
    assert waiting["step_details"]["tool_calls"][0]["function"]["arguments"] == "{}"
    [told] = script.writing.calls
    assert told["id"] == "call_1"
    transcript = read_transcript(list(script.stored.values()), "run_1")
    assert transcript.rounds == [Round((ToolCall("call_1", "add", "{}"), THOUGHT))]
    assert transcript.waiting == waiting


@pytest.mark.parametrize(
    ("status", "why", "message_is"), [("cancelled", "cancelled", "run_cancelled"), ("failed", "failed", "run_failed")]
)
def test_what_is_open_is_cut_and_what_was_done_stays(status: str, why: str, message_is: str) -> None:
    script = Script(*CODE[:2], ending="cut", status=status, why=why)
    [step] = script.steps
    assert (step["status"], step["usage"]["total_tokens"]) == (status, 5)
    assert step["step_details"]["tool_calls"][0]["code_interpreter"]["input"] == "print(1)"
    assert script.names[-1] == f"run.step.{status}"
    script = Script(*CODE, TextDelta(0, "It"), ending="cut", status=status, why=why)
    hosted, spoken = script.steps
    assert (hosted["status"], spoken["status"]) == ("completed", status)
    assert script.messages[0]["incomplete_details"] == {"reason": message_is}


def test_an_image_whose_file_is_known_late_is_added_to_its_step() -> None:
    """Some vendors name it only beside the words that show it."""
    image = HostedCall(0, "ci_1", "code_interpreter", {"outputs": [{**IMAGE, "index": 1}]})
    script = Script(*CODE[:3], TextDelta(0, "See."), image, THOUGHT)
    hosted, _ = script.steps
    assert hosted["step_details"]["tool_calls"][0]["code_interpreter"]["outputs"][1] == IMAGE
    assert hosted["status"] == "completed"
    assert len(script.messages) == 1
    told = script.deltas("thread.run.step.delta")[-1]["step_details"]["tool_calls"][0]
    assert told == {"index": 0, "type": "code_interpreter", "code_interpreter": {"outputs": [{"index": 1, **IMAGE}]}}
    assert script.writing.round == read_transcript(list(script.stored.values()), "run_2").turns[0]


def test_annotations_are_told_by_their_place_and_stand_in_the_message() -> None:
    cited = {
        "type": "file_citation",
        "text": "【1】",
        "start_index": 3,
        "end_index": 6,
        "file_citation": {"file_id": "file-1"},
    }
    made = {
        "type": "file_path",
        "text": "sandbox:/a.csv",
        "start_index": 7,
        "end_index": 21,
        "file_path": {"file_id": "cfile_1", "container_id": "cntr_1"},
    }
    script = Script(TextDelta(0, "See【1】 sandbox:/a.csv"), Annotation(0, cited), Annotation(0, made))
    named = {**made, "file_path": {"file_id": "file-cntr-6-cntr_1cfile_1"}}
    assert script.messages[0]["content"][0]["text"]["annotations"] == [cited, named]
    told = [each["content"][0] for each in script.deltas("thread.message.delta")][1:]
    assert told == [
        {"index": 0, "type": "text", "text": {"annotations": [{"index": 0, **cited}]}},
        {"index": 0, "type": "text", "text": {"annotations": [{"index": 1, **named}]}},
    ]


# --- what the next generation hears -----------------------------------------------------------------------------------
def test_what_was_carried_beside_hosted_calls_is_kept_for_later_runs() -> None:
    """At its place among the words; not, where the words were deleted."""
    script = Script(*CODE, TextDelta(0, "It is 1."), THOUGHT, Finish("stop"))
    history = list(script.stored.values())
    expected = Round((Text("It is 1."), THOUGHT))
    assert read_transcript(history, "run_2").turns == [expected]
    assert script.writing.round == expected
    [message] = script.messages
    deleted = [each for each in history if each is not message]
    assert read_transcript(deleted, "run_2").turns == [Round(())]
    assert b"carried" not in orjson.dumps([shown_step(each) for each in script.steps])


def test_without_hosted_calls_nothing_is_carried_beyond_the_run() -> None:
    script = Script(TextDelta(0, "It is 1."), THOUGHT)
    assert read_transcript(list(script.stored.values()), "run_2").turns == [Message("assistant", (Text("It is 1."),))]


@pytest.mark.parametrize("hosted", [(), CODE], ids=["words alone", "with a hosted call"])
def test_a_pause_keeps_its_round_and_what_it_took(hosted: tuple[Delta, ...]) -> None:
    script = Script(*hosted, TextDelta(0, "Let me see."), THOUGHT, Finish("paused"), ending="pause")
    transcript = read_transcript(list(script.stored.values()), "run_1")
    assert transcript.rounds == [Round((Text("Let me see."), THOUGHT))] == [script.writing.round]
    assert (transcript.turns, transcript.waiting) == ([], None)
    assert (transcript.used or {})["total_tokens"] == 5
    assert all(each["status"] == "completed" for each in script.stored.values())
