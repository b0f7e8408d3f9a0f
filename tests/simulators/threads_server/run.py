"""One run: its status, its steps, and the events that tell of both.

Everything a run does is told as an event, a copy of the object at that moment. A streamed request answers
with the events; any other request drops them.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from tests.simulators.threads_server.ground import Ground, Plain, Shelf
from tests.simulators.threads_server.refusal import Json

Event = tuple[str, Json | str]

LIFE_S = 600
ACTIVE = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
CANCELLABLE = frozenset({"queued", "in_progress", "requires_action"})
STAMPS = {"completed": "completed_at", "cancelled": "cancelled_at", "failed": "failed_at"}
DONE: Event = ("done", "[DONE]")


@dataclass
class Run:
    """`prompt` is the last user message; `rounds` the tool outputs submitted so far."""

    ground: Ground
    json: Json
    steps: Shelf[Plain]
    prompt: str
    shows_results: bool = False
    rounds: list[list[str]] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)

    @property
    def status(self) -> str:
        return str(self.json["status"])

    @property
    def is_active(self) -> bool:
        self.expire_if_due()
        return self.status in ACTIVE

    @property
    def calls(self) -> list[Json]:
        """The calls that wait for outputs."""
        action = self.json["required_action"]
        return list(action["submit_tool_outputs"]["tool_calls"]) if action else []

    def tell(self, event: str, record: Json) -> None:
        told = record if self.shows_results else without_results(record)
        self._events.append((event, deepcopy(told)))

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def move(self, status: str, **facts: object) -> None:
        """Enter a status. Facts are fields that change with it."""
        self.json.update(facts, status=status)
        self.tell(f"thread.run.{status}", self.json)

    def announce(self) -> None:
        """Tell of a new run; it is queued from the start."""
        self.tell("thread.run.created", self.json)
        self.tell("thread.run.queued", self.json)

    def start(self) -> None:
        self.move("in_progress", started_at=self.json["started_at"] or self.ground.now())

    def end(self, status: str, **facts: object) -> None:
        """Enter a terminal status, closing what is still open."""
        for step in self.steps:
            if step.json["status"] == "in_progress":
                self.close_step(step.json, status)
        self.move(
            status,
            expires_at=None,
            required_action=None,
            usage=count_tokens(self.prompt, *(json_text(step.json) for step in self.steps)),
            **{STAMPS[status]: self.ground.now()} if status in STAMPS else {},
            **facts,
        )

    def expire_if_due(self) -> None:
        due = self.json["expires_at"]
        if self.status in ACTIVE and due is not None and self.ground.now() >= due:
            self.end("expired")

    def open_step(self, type_name: str, details: Json | list[Json]) -> Json:
        step = self.ground.birth("step", "thread.run.step") | {
            "run_id": self.json["id"],
            "assistant_id": self.json["assistant_id"],
            "thread_id": self.json["thread_id"],
            "type": type_name,
            "status": "in_progress",
            "cancelled_at": None,
            "completed_at": None,
            "expires_at": self.json["expires_at"],
            "failed_at": None,
            "last_error": None,
            "step_details": {"type": type_name, type_name: details},
            "usage": None,
        }
        self.steps.put(Plain(step))
        self.tell("thread.run.step.created", step)
        self.tell("thread.run.step.in_progress", step)
        return step

    def close_step(self, step: Json, status: str, **facts: object) -> None:
        stamp = {STAMPS[status]: self.ground.now()} if status in STAMPS else {}
        step.update(facts, status=status, usage=count_tokens(self.prompt, json_text(step)), **stamp)
        self.tell(f"thread.run.step.{status}", step)

    def tell_step_delta(self, step: Json, call: Json) -> None:
        details = {"type": "tool_calls", "tool_calls": [call]}
        delta = {"id": step["id"], "object": "thread.run.step.delta", "delta": {"step_details": details}}
        self.tell("thread.run.step.delta", delta)


def without_results(record: Json) -> Json:
    """File search results are shown only to callers that ask for them with `include[]`."""
    calls = record.get("step_details", {}).get("tool_calls") or []
    if not any("results" in call.get("file_search", {}) for call in calls):
        return record
    record = deepcopy(record)
    for call in record["step_details"]["tool_calls"]:
        call.get("file_search", {}).pop("results", None)
    return record


def json_text(step: Json) -> str:
    return str(step["step_details"])


def count_tokens(prompt: str, *answers: str) -> Json:
    """Made up, but stable: about four characters a token."""
    asked, answered = len(prompt) // 4 + 1, sum(map(len, answers)) // 4 + 1
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_token_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
