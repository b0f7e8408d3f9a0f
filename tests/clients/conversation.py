"""The conversation that OpenAI's own SDKs hold, whatever their language: what a program must have seen of it."""

from __future__ import annotations

from typing import Any

from tests.clients.conftest import Stand

ASKS_FOR_OUTPUTS = [
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.delta",
    "thread.run.step.delta",
    "thread.run.requires_action",
]
ANSWERS = [
    "thread.run.step.completed",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    *["thread.message.delta"] * 6,
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
]

SEEN: dict[str, Any] = {
    "assistant": "Wetterfrosch",
    "model": "gpt-4o",
    "metadata": {"ticket": "thread_1"},
    "polled": "requires_action",
    "polled_calls": [["get_weather", '{"city": "Zürich"}']],
    "polled_end": "completed",
    "polled_text": "The tools answered: 12 °C",
    "streamed": "requires_action",
    "streamed_events": ASKS_FOR_OUTPUTS,
    "streamed_calls": [["get_weather", '{"city": "Oslo"}']],
    "streamed_end": "completed",
    "streamed_end_events": ANSWERS,
    "streamed_deltas": ["The ", "tools ", "answered: ", "-3 ", "°C ", "❄"],
    "streamed_text": "The tools answered: -3 °C ❄",
    "streamed_kept": True,
    "iterated": "You said: hello",
    "page": ["user"],
    "next_page": ["assistant", "user"],
    "has_more": [True, True],
    "all_pages": ["assistant", "user", "assistant"],
    "steps": ["tool_calls", "message_creation"],
    "runs": 2,
    "listed": True,
    "file": ["nötes.txt", "Schnee\r\n"],
    "deleted": [True, True],
    "missing": "No thread found with id '…'.",
}


def assert_went_well(stand: Stand, facts: dict[str, Any], **more: Any) -> None:
    """The program saw all of it, and `more`; and the SDK had to repeat nothing."""
    broken = (
        f"provider '{stand.vendor.name}' cut the answer off; the run may go on there: look at it before you repeat it"
    )
    assert facts == {**SEEN, "broken": broken, **more}
    lines = stand.events.named("request.done")
    assert [line["operation"] for line in lines if line["status"] != 200] == ["get_thread"]  # the one that was deleted
    assert {heard.headers.get("X-Stainless-Retry-Count", "0") for heard in stand.vendor.simulator.journal} == {"0"}


def assert_was_served_well(stand: Stand, facts: dict[str, Any], **more: Any) -> None:
    """The same over threads that the gateway serves. There are no files; and a model that breaks off is no end of the
    stream, but of the run, which says why."""
    assert facts.pop("broken")
    assert facts == {name: fact for name, fact in SEEN.items() if name != "file"} | more
    lines = stand.events.named("request.done")
    assert [line["operation"] for line in lines if line["status"] != 200] == ["get_thread"]
