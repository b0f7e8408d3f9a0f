"""The turns of a thread, made fit to be sent: within the caller's limits, and within the rules all vendors share.

`fit` runs once for a generation, in the engine. `settle` and `alternate` are for the files of model APIs, when they
build a request.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.engine.models.generation import (
    Carried,
    ImageFile,
    ImageUrl,
    Message,
    Part,
    RefusalText,
    Round,
    RoundItem,
    Text,
    ToolCall,
    Turn,
)

NOTHING_SAID = "(no message)"
"""Stands for the user's word where one must be and none is: in an empty thread, before an assistant who spoke first."""
GO_ON = "Continue."
"""Stands for the user's word where the assistant spoke last, and the vendor wants the user to."""

_TURN_TOKENS = 4
_IMAGE_TOKENS = {"low": 85, "high": 765}
"""What OpenAI's vision guide counts for a small image and for one of 1024 × 1024 (read 2026-11-22)."""


@dataclass(frozen=True)
class Truncation:
    """A run's `truncation_strategy`. `last_messages` goes with the type of that name."""

    type: Literal["auto", "last_messages"] = "auto"
    last_messages: int | None = None


@dataclass(frozen=True)
class Fitted:
    """The turns to send. `fits` False: even so they are estimated beyond the limit, and the run ends `incomplete` with
    `max_prompt_tokens`."""

    turns: tuple[Turn, ...]
    estimated_tokens: int
    fits: bool


def fit(
    history: Sequence[Turn],
    rounds: Sequence[Round],
    *,
    truncation: Truncation,
    spoken_for_tokens: int = 0,
    max_prompt_tokens: int | None,
) -> Fitted:
    """What of a thread goes into the next generation.

    `history` is the thread as the run found it, oldest first; `rounds` are the run's own and are never dropped, nor is
    the newest turn of the history. `spoken_for_tokens` is the estimate of all the rest (instructions, tools).
    `auto` drops turns from the middle, as OpenAI documents: the first stays if it can, then as many of the newest as
    fit. `last_messages` counts messages; rounds of earlier runs stay with the messages they stand among.
    """
    if truncation.type == "last_messages" and truncation.last_messages is not None:
        history = _last_messages(history, truncation.last_messages)
    costs = [estimate_tokens(turn) for turn in history]
    fixed = spoken_for_tokens + sum(map(estimate_tokens, rounds))
    limit = max_prompt_tokens
    if limit is not None and truncation.type == "auto" and fixed + sum(costs) > limit:
        kept = _without_middle(costs, limit - fixed)
        history, costs = [history[place] for place in kept], [costs[place] for place in kept]
    total = fixed + sum(costs)
    return Fitted((*history, *rounds), total, limit is None or total <= limit)


def _last_messages(history: Sequence[Turn], count: int) -> Sequence[Turn]:
    places = [place for place, turn in enumerate(history) if isinstance(turn, Message)]
    return history[places[-count] :] if 0 < count <= len(places) else history


def _without_middle(costs: Sequence[int], limit: int) -> list[int]:
    """Places of the turns that stay."""
    if not costs:
        return []
    last = len(costs) - 1
    kept, left = [last], limit - costs[last]
    if last and costs[0] <= left:
        kept.append(0)
        left -= costs[0]
    for place in range(last - 1, 0, -1):
        if costs[place] > left:
            break
        kept.append(place)
        left -= costs[place]
    return sorted(kept)


def estimate_tokens(turn: Turn) -> int:
    """Roughly, and rather too many: no vendor's tokenizer is at hand. See `estimate_text_tokens`."""
    if isinstance(turn, Message):
        return _TURN_TOKENS + sum(map(_tokens, turn.parts))
    answered = sum(_TURN_TOKENS + estimate_text_tokens(given.output) for given in turn.outputs)
    return _TURN_TOKENS + sum(map(_tokens, turn.items)) + answered


def estimate_text_tokens(text: str) -> int:
    """A quarter of a token for a character, which is OpenAI's rule of thumb for English, and 0.4 more for each byte
    beyond the first of a character in UTF-8: about 1 for a Chinese character, 0.65 for a Cyrillic one."""
    extra = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
    return (5 * len(text) + 8 * extra + 19) // 20


def _tokens(item: Part | RoundItem) -> int:
    match item:
        case Text(text) | RefusalText(text):
            return estimate_text_tokens(text)
        case ToolCall(_, name, arguments):
            return _TURN_TOKENS + estimate_text_tokens(name) + estimate_text_tokens(arguments)
        case ImageUrl() | ImageFile():
            return _IMAGE_TOKENS.get(item.detail or "", _IMAGE_TOKENS["high"])
        case Carried():
            return 0  # reasoning of earlier rounds; what it cost is known from the usage only


def settle_or_begin(turns: Iterable[Turn], *, api: str) -> list[Turn]:
    """The same as `settle`; where nobody has said a thing, the user says that: no vendor takes a request of nothing."""
    return settle(turns, api=api) or [Message("user", (Text(NOTHING_SAID),))]


def settle(turns: Iterable[Turn], *, api: str) -> list[Turn]:
    """The turns without what no vendor takes, and without what was carried for other model APIs than `api`.

    Every vendor wants each call answered right behind it, and nothing else. So a call that nobody answered (its run was
    cancelled or expired) is left out, with what was carried beside it; an output without its call too. What the model
    said there stays, as a message. Turns that say nothing are left out. An assistant's message right before a round
    becomes part of it: they come from one generation, and some vendors refuse two assistant's messages in a row.
    A round without calls stays one only for what is carried in it.
    """
    settled: list[Turn] = []
    for turn in turns:
        done = _settle_round(turn, api) if isinstance(turn, Round) else _settle_message(turn)
        if isinstance(done, Round) and settled and (spoken := _words_before_round(settled[-1])):
            settled[-1] = replace(done, items=(*spoken, *done.items))
        elif done is not None:
            settled.append(done)
    return settled


def _words_before_round(turn: Turn) -> tuple[Text | RefusalText, ...]:
    """None of them if the turn is no assistant's message or holds more than words."""
    if not isinstance(turn, Message) or turn.role != "assistant":
        return ()
    words = _words(turn.parts)
    return words if len(words) == len(turn.parts) else ()


def _words(items: Iterable[Part | RoundItem]) -> tuple[Text | RefusalText, ...]:
    return tuple(item for item in items if isinstance(item, Text | RefusalText))


def _settle_message(message: Message) -> Message | None:
    parts = tuple(part for part in message.parts if _says_something(part))
    if not parts:
        return None
    return message if len(parts) == len(message.parts) else replace(message, parts=parts)


def _settle_round(turn: Round, api: str) -> Turn | None:
    called = {call.id for call in turn.calls}
    outputs = {given.call_id: given for given in turn.outputs if given.call_id in called}
    is_answered = len(outputs) == len(called)
    items = tuple(item for item in turn.items if _stays(item, outputs, api if is_answered else None))
    if all(isinstance(item, Text | RefusalText) for item in items):
        return _settle_message(Message("assistant", _words(items)))
    return Round(items, tuple(outputs.values()))


def _stays(item: RoundItem, outputs: Container[str], api: str | None) -> bool:
    if isinstance(item, ToolCall):
        return item.id in outputs
    return item.api == api if isinstance(item, Carried) else _says_something(item)


def _says_something(item: Part | RoundItem) -> bool:
    return bool(item.text) if isinstance(item, Text | RefusalText) else True


def alternate(settled: Iterable[Turn]) -> list[Turn]:
    """For vendors where user and assistant must take turns: neighbours of one role become one message. Of rounds that a
    user's message follows, because their run ended before the model spoke of the outputs, only the words stay."""
    turns: list[Turn] = []
    for turn in settled:
        if isinstance(turn, Message) and turn.role == "user":
            _close_rounds(turns)
        _join(turns, turn)
    return turns


def _close_rounds(turns: list[Turn]) -> None:
    """Leave no round at the end."""
    while turns and isinstance(last := turns[-1], Round):
        turns.pop()
        if words := _words(last.items):
            _join(turns, Message("assistant", words))


def _join(turns: list[Turn], turn: Turn) -> None:
    """Append, or make one of two that have the same role."""
    before = turns[-1] if turns else None
    if isinstance(turn, Message) and isinstance(before, Message) and before.role == turn.role:
        turns[-1] = replace(before, parts=before.parts + turn.parts)
    elif isinstance(turn, Round) and before is not None and (spoken := _words_before_round(before)):
        turns[-1] = replace(turn, items=(*spoken, *turn.items))
    else:
        turns.append(turn)
