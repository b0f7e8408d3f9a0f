"""What a model is asked and what it answers, in no vendor's words.

A *generation* is one call of a model. A run takes one, and one more for every *round* of tool calls. The engine makes
a `Generation` out of thread, run and assistant; a model API makes a request out of it, and `Delta`s out of the answer.

A reader of an answer promises this order, whatever the vendor does:
- `CallBegun` comes before the `CallArguments` of its index; indexes of calls, hosted ones too, count from 0 without
  a gap, those of texts and refusals from 0;
- no text, refusal or arguments is empty; a call that ends in good order has arguments, `{}` if the model said none;
- what a `HostedCall` says comes before the text, refusal or call that follows it, for its step is told as done then;
  what comes later all the same, such as the file of an image, is added to the step;
- an `Annotation` comes after the text that it is about begins, and before any hosted call that follows;
- `Carried` comes before the end, in the order in which it goes back;
- `Usage` comes at most once, just before the end;
- exactly one `Finish` or `Failure` comes, last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]


# What is asked.


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """`url` may be a `data:` URL. `detail` None: the caller said none."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file at the provider, under the provider's id. Only where `Offer.image_files` is True; else it is refused at
    creation."""

    file_id: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class RefusalText:
    """The model's words when it declined."""

    text: str


Part = Text | ImageUrl | ImageFile | RefusalText


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the thread, as far as it goes: of an incomplete one, the parts that are there."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text the model wrote, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Carried:
    """Something a model API wants back unread in the next generation, at the same place: Responses' reasoning items
    and hosted calls, Anthropic's signed thinking, Gemini's thought signatures. Only files of the same `api` send it."""

    api: str
    value: Json


@dataclass(frozen=True, slots=True)
class ToolOutput:
    call_id: str
    output: str


RoundItem = Text | RefusalText | ToolCall | Carried


@dataclass(frozen=True, slots=True)
class Round:
    """One generation that called tools or was paused, in the order in which its deltas began, and what the tools
    answered.

    A call without an output is one that nobody answered: its run was cancelled or expired.
    """

    items: tuple[RoundItem, ...]
    outputs: tuple[ToolOutput, ...] = ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(item for item in self.items if isinstance(item, ToolCall))


Turn = Message | Round


@dataclass(frozen=True, slots=True)
class Function:
    """A function tool. None: the caller did not say."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that the vendor runs. `settings` hold what the caller said of it and what it works on, by upstream ids:

    | `file_search`      | `vector_store_ids`, the thread's and the assistant's, maybe none; and what the caller said of
    |                    | `max_num_results` and `ranking_options`
    | `code_interpreter` | `file_ids`, of the assistant, the thread and its messages, each once
    """

    type: str
    settings: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedTool:
    """A choice of one tool. `name` is the function's, None for a hosted tool."""

    type: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One call of a model. None means that nobody said anything, not the default that a run object shows: some models
    refuse `temperature: 1.0` when it is said."""

    model: str
    """As the provider calls it."""
    turns: tuple[Turn, ...]
    """Oldest first, already fitted by `history.fit`; rounds of this run last."""
    instructions: str = ""
    tools: tuple[Function | HostedTool, ...] = ()
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    response_format: Json | None = None
    """As the caller said it: `{"type": "text" | "json_object" | "json_schema", …}`; None also for `auto`."""
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    """What the run has left of it."""


# What comes back.


@dataclass(frozen=True, slots=True)
class TextDelta:
    """`index` is the text's place among the contents of the message."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """`value` has the shape of Threads (`file_citation`, `file_path`); `index` is the text's. A file that lies in a
    container has `container_id` beside its `file_id`."""

    index: int
    value: Json


@dataclass(frozen=True, slots=True)
class CallBegun:
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class HostedCall:
    """A call that the vendor runs, or more of it. `delta` is what a run step's delta has under the name of the tool:

    | `code_interpreter` | `{"input": "more of it"}`, `{"outputs": [{"index": 0, "type": "logs", "logs": "more"}]}`,
    |                    | `{"outputs": [{"index": 1, "type": "image", "image": {"file_id", "container_id"}}]}`
    | `file_search`      | `{"ranking_options": …, "results": [{"file_id", "file_name", "score", "content"}]}`, results
    |                    | at most once
    """

    index: int
    id: str
    type: str
    delta: Json


@dataclass(frozen=True, slots=True)
class Usage:
    """In tokens, of this generation alone."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    """Those of the prompt that were in the vendor's cache."""
    reasoning_tokens: int = 0
    """Those of the completion that nobody sees."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is whole, as far as it goes.

    | reason           | the run
    | `stop`           | is completed
    | `tool_calls`     | requires action
    | `length`         | is incomplete: `max_completion_tokens`
    | `content_filter` | is incomplete: `content_filter`
    | `paused`         | asks again at once, with what was carried (Anthropic's `pause_turn`)
    """

    reason: Literal["stop", "tool_calls", "length", "content_filter", "paused"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Ends the generation; `code` and `message` are a run's `last_error`.

    The message never speaks of our keys, and what looks like one is masked; a key without a known look is masked by
    whoever knows it.
    """

    code: Literal["rate_limit_exceeded", "server_error", "invalid_prompt"]
    message: str
    retry_after_s: float | None = None
    """As the vendor asks; None if it does not say."""
    vendor_code: str | None = None
    """The vendor's own, for the pool of keys and the log. Not for callers."""


Delta = (
    TextDelta | RefusalDelta | Annotation | CallBegun | CallArguments | HostedCall | Carried | Usage | Finish | Failure
)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A POST to the vendor, without any secret. `path` is below the provider's base URL, with its query."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the model API needs besides content type and key, such as `anthropic-version`."""
