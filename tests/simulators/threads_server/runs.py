"""The operations on runs and their steps.

There are no tasks and no timers: reading a run moves it one status on, so that polling callers see it live,
and a streamed run is played to its end at once, whether or not somebody reads on.
"""

from typing import Any

from tests.simulators.threads_server import play
from tests.simulators.threads_server.files import Files
from tests.simulators.threads_server.ground import Ground, Plain, Query, Shelf, merge_metadata
from tests.simulators.threads_server.refusal import Json, Refused, check_fields, wrong_type
from tests.simulators.threads_server.run import CANCELLABLE, DONE, LIFE_S, Event, Run, without_results
from tests.simulators.threads_server.stores import Stores
from tests.simulators.threads_server.threads import Assistants, Thread, Threads, text_of

Played = Json | list[Event]
RESULTS_CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
OWN_DEFAULTS: Json = {
    "max_completion_tokens": None,
    "max_prompt_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "metadata": {},
}
INHERITED = ("model", "instructions", "tools", "temperature", "top_p", "reasoning_effort", "response_format")


class Runs:
    """Answers are the run, or the list of its events when the body says `stream`."""

    def __init__(
        self, ground: Ground, *, files: Files, stores: Stores, assistants: Assistants, threads: Threads
    ) -> None:
        self._ground = ground
        self._files = files
        self._stores = stores
        self._assistants = assistants
        self._threads = threads

    def create(self, thread_id: str, body: Json, query: Query) -> Played:
        thread = self._threads.find(thread_id)
        check_fields(body, "assistant_id")
        assistant = self._assistants.get(body["assistant_id"])
        if active := thread.active_run:
            raise Refused(f"Thread {thread_id} already has an active run {active.json['id']}.")
        more = body.get("additional_messages") or []
        if not thread.last_user_message:
            require_something_to_do(more, choose(body, assistant, "instructions"))
        self._threads.add_messages(thread, more)
        run = self._begin(thread, assistant, body)
        run.shows_results = RESULTS_CONTENT in includes(query)
        return self._answer(thread, run, body)

    def create_with_thread(self, body: Json) -> Played:
        check_fields(body, "assistant_id")
        assistant = self._assistants.get(body["assistant_id"])
        resources = self._stores.resolve(body.get("tool_resources"))
        described = body.get("thread") or {}
        check_fields(described)
        require_something_to_do(described.get("messages") or [], choose(body, assistant, "instructions"))
        thread = self._threads.find(self._threads.create(described)["id"])
        run = self._begin(thread, assistant, body)
        run.json["tool_resources"] = resources or run.json["tool_resources"]
        answer = self._answer(thread, run, body)
        return [("thread.created", dict(thread.json)), *answer] if isinstance(answer, list) else answer

    def list_all(self, thread_id: str, query: Query) -> Json:
        runs = self._threads.find(thread_id).runs
        for run in runs:
            run.expire_if_due()
        return runs.page(query)

    def get(self, thread_id: str, run_id: str) -> Json:
        thread, run = self._find(thread_id, run_id)
        match run.status:
            case "queued":
                run.start()
            case "in_progress":
                play.act(thread, run, self._files, self._stores)
            case "cancelling":
                run.end("cancelled")
        run.take_events()
        return run.json

    def modify(self, thread_id: str, run_id: str, body: Json) -> Json:
        """Refused while in progress, as recorded; of the other statuses nothing is known."""
        _, run = self._find(thread_id, run_id)
        check_fields(body)
        if run.status == "in_progress":
            raise Refused(f"Cannot update run with status '{run.status}'.")
        merge_metadata(run.json, body)
        return run.json

    def cancel(self, thread_id: str, run_id: str) -> Json:
        _, run = self._find(thread_id, run_id)
        if run.status not in CANCELLABLE:
            raise Refused(f"Cannot cancel run with status '{run.status}'.")
        run.move("cancelling", required_action=None)
        return run.json

    def submit_tool_outputs(self, thread_id: str, run_id: str, body: Json) -> Played:
        thread, run = self._find(thread_id, run_id)
        if run.status != "requires_action":
            raise Refused(f'Runs in status "{run.status}" do not accept tool outputs.')
        check_fields(body, "tool_outputs")
        outputs = read_outputs(body["tool_outputs"], [call["id"] for call in run.calls])
        [step] = (each.json for each in run.steps if each.json["status"] == "in_progress")
        for call in step["step_details"]["tool_calls"]:
            call["function"]["output"] = outputs[call["id"]]
        run.rounds.append([outputs[call["id"]] for call in run.calls])
        run.take_events()
        run.close_step(step, "completed")
        run.move("queued", required_action=None)
        return self._answer(thread, run, body)

    def list_steps(self, thread_id: str, run_id: str, query: Query) -> Json:
        _, run = self._find(thread_id, run_id)
        page = run.steps.page(query)
        return page | {"data": [show_step(step, query) for step in page["data"]]}

    def get_step(self, thread_id: str, run_id: str, step_id: str, query: Query) -> Json:
        _, run = self._find(thread_id, run_id)
        return show_step(run.steps.find(step_id).json, query)

    def _find(self, thread_id: str, run_id: str) -> tuple[Thread, Run]:
        thread = self._threads.find(thread_id)
        run = thread.runs.find(run_id)
        run.expire_if_due()
        return thread, run

    def _begin(self, thread: Thread, assistant: Json, body: Json) -> Run:
        now = self._ground.now()
        instructions = [choose(body, assistant, "instructions"), body.get("additional_instructions")]
        record = (
            self._ground.birth("run", "thread.run")
            | {"thread_id": thread.json["id"], "assistant_id": assistant["id"], "status": "queued"}
            | dict.fromkeys(("started_at", "cancelled_at", "failed_at", "completed_at"))
            | dict.fromkeys(("required_action", "last_error", "incomplete_details", "usage"))
            | {"expires_at": now + LIFE_S, "tool_resources": assistant["tool_resources"]}
            | {name: choose(body, assistant, name) for name in INHERITED}
            | {"instructions": " ".join(text for text in instructions if text)}
            | {name: choose(body, OWN_DEFAULTS, name) for name in OWN_DEFAULTS}
        )
        steps: Shelf[Plain] = Shelf(self._ground, "step", "run step")
        run = thread.runs.put(Run(self._ground, record, steps, text_of(thread.last_user_message)))
        run.announce()
        return run

    def _answer(self, thread: Thread, run: Run, body: Json) -> Played:
        if not body.get("stream"):
            run.take_events()
            return run.json
        run.start()
        play.act(thread, run, self._files, self._stores)
        return [*run.take_events(), DONE]


def choose(body: Json, fallback: Json, name: str) -> Any:
    """The caller's value, or the fallback's when absent or null."""
    return fallback[name] if body.get(name) is None else body[name]


def require_something_to_do(messages: list[Json], instructions: str | None) -> None:
    if not instructions and all(message["role"] != "user" for message in messages):
        raise Refused(
            "Run creation requires a Thread with a user message or an assistant with instructions.",
            code="invalid_thread",
        )


def read_outputs(given: list[Json], expected: list[str]) -> dict[str, str]:
    """The outputs by call id. Missing, unknown and doubled ids are refused with both lists."""
    got = [output.get("tool_call_id") for output in given]
    if sorted(map(str, got)) != sorted(expected):
        raise Refused(f"Expected tool outputs for call_ids {expected}, got {got}")
    for place, output in enumerate(given):
        if not isinstance(output.get("output", ""), str):
            raise wrong_type(f"tool_outputs[{place}].output", "a string", output["output"])
    return {output["tool_call_id"]: output.get("output", "") for output in given}


def includes(query: Query) -> str:
    return query.get("include[]") or query.get("include") or ""


def show_step(step: Json, query: Query) -> Json:
    return step if RESULTS_CONTENT in includes(query) else without_results(step)
