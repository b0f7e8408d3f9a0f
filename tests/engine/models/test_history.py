"""The turns of a thread as they are sent: within the caller's limits, and so that every vendor takes them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.models.generation import (
    Carried,
    ImageFile,
    ImageUrl,
    Message,
    RefusalText,
    Round,
    Text,
    ToolCall,
    ToolOutput,
    Turn,
)
from gateway.engine.models.history import (
    Truncation,
    alternate,
    estimate_text_tokens,
    estimate_tokens,
    fit,
    settle,
)
from tests.engine.models.values import assistant, round_of, user
from tests.values import any_text, unhurried

THOUGHT = Carried("responses", {"type": "reasoning"})
THEIRS = Carried("messages", {"type": "thinking"})
CALL = ToolCall("call_a", "weather", '{"city":"Bonn"}')


@pytest.mark.parametrize(
    ("turns", "settled"),
    [
        # As it was.
        ([user("a"), assistant("b"), user("c")], [user("a"), assistant("b"), user("c")]),
        ([user("a"), round_of(call_a="7"), assistant("b")], [user("a"), round_of(call_a="7"), assistant("b")]),
        ([user("a"), round_of(THOUGHT, call_a="7")], [user("a"), round_of(THOUGHT, call_a="7")]),
        ([user("a"), user("b")], [user("a"), user("b")]),
        ([user(ImageUrl("https://x/y.png"))], [user(ImageUrl("https://x/y.png"))]),
        # The run was cancelled while it waited: the call is no more, what was carried for it neither.
        ([user("a"), round_of(call_a=None), user("b")], [user("a"), user("b")]),
        ([user("a"), round_of(THOUGHT, call_a=None), user("b")], [user("a"), user("b")]),
        ([user("a"), round_of(Text("Let me see"), call_a=None)], [user("a"), assistant("Let me see")]),
        ([user("a"), assistant("Let me see"), round_of(call_a=None)], [user("a"), assistant("Let me see")]),
        ([round_of(THOUGHT, call_a="7", call_b=None)], [round_of(call_a="7")]),
        # Outputs without their call, and twice.
        ([Round((CALL,), (ToolOutput("call_a", "7"), ToolOutput("call_z", "8")))], [round_of(call_a="7")]),
        ([Round((CALL,), (ToolOutput("call_a", "7"), ToolOutput("call_a", "7")))], [round_of(call_a="7")]),
        ([Round((), (ToolOutput("call_z", "8"),))], []),
        ([Round((Text("so"),))], [assistant("so")]),
        # An output may be empty: that is an answer.
        ([round_of(call_a="")], [round_of(call_a="")]),
        # A message and the calls behind it are one generation.
        ([assistant("Let me see"), round_of(call_a="7")], [round_of(Text("Let me see"), call_a="7")]),
        ([assistant(RefusalText("no")), round_of(call_a="7")], [round_of(RefusalText("no"), call_a="7")]),
        ([user("a"), round_of(call_a="7")], [user("a"), round_of(call_a="7")]),
        (
            [assistant(ImageUrl("https://x/y.png")), round_of(call_a="7")],
            [assistant(ImageUrl("https://x/y.png")), round_of(call_a="7")],
        ),
        # The model paused: what is carried is what it goes on with.
        ([user("a"), round_of(Text("so"), THOUGHT)], [user("a"), round_of(Text("so"), THOUGHT)]),
        # Carried for others.
        ([round_of(THEIRS, THOUGHT, call_a="7")], [round_of(THOUGHT, call_a="7")]),
        ([round_of(Text("so"), THEIRS)], [assistant("so")]),
        ([round_of(THEIRS)], []),
        # Nothing said.
        ([user(""), user("a"), assistant(), user("", "b", "")], [user("a"), user("b")]),
        ([round_of(Text(""), THOUGHT, call_a="7")], [round_of(THOUGHT, call_a="7")]),
        ([round_of(Text(""), call_a=None)], []),
        ([], []),
    ],
)
def test_every_call_is_answered_and_every_turn_says_something(turns: list[Turn], settled: list[Turn]) -> None:
    assert settle(turns, api="responses") == settled
    assert settle(settled, api="responses") == settled


@pytest.mark.parametrize(
    ("turns", "alternating"),
    [
        ([user("a"), assistant("b"), user("c")], [user("a"), assistant("b"), user("c")]),
        ([user("a"), user("b", "c"), assistant("d"), assistant("e")], [user("a", "b", "c"), assistant("d", "e")]),
        # The run ended before the model spoke of the outputs.
        ([user("a"), round_of(call_a="7"), user("b")], [user("a", "b")]),
        ([user("a"), round_of(call_a="7"), round_of(call_b="8"), user("b")], [user("a", "b")]),
        ([assistant("a"), round_of(Text("b"), call_a="7"), user("c")], [assistant("a", "b"), user("c")]),
        ([assistant("a", "b"), round_of(call_a="7")], [round_of(Text("a"), Text("b"), call_a="7")]),
        (
            [user("a"), round_of(call_a="7"), round_of(Text("so"), call_b="8"), user("b")],
            [user("a"), round_of(call_a="7"), assistant("so"), user("b")],
        ),
        # It goes on with them.
        ([user("a"), round_of(call_a="7")], [user("a"), round_of(call_a="7")]),
        (
            [user("a"), round_of(call_a="7"), round_of(call_b="8"), assistant("c"), user("d")],
            [user("a"), round_of(call_a="7"), round_of(call_b="8"), assistant("c"), user("d")],
        ),
        ([], []),
    ],
)
def test_user_and_assistant_take_turns(turns: list[Turn], alternating: list[Turn]) -> None:
    assert alternate(turns) == alternating


_words = st.sampled_from(["", "a", "b"]).map(Text)
_ids = st.sampled_from(["call_a", "call_b"])
_rounds = st.builds(
    Round,
    st.lists(_words | st.just(THOUGHT), max_size=2).flatmap(
        lambda said: st.lists(_ids, unique=True, max_size=2).map(
            lambda ids: (*said, *(ToolCall(name, "weather", "{}") for name in ids))
        )
    ),
    st.lists(st.builds(ToolOutput, _ids, st.sampled_from(["", "7"])), max_size=3).map(tuple),
)
_messages = st.builds(Message, st.sampled_from(["user", "assistant"]), st.lists(_words, max_size=2).map(tuple))
_turns = st.lists(_messages | _rounds, max_size=8)


@unhurried
@given(_turns)
def test_any_history_can_be_sent(turns: list[Turn]) -> None:
    settled = settle(turns, api="responses")
    for turn in settled:
        if isinstance(turn, Round):
            assert sorted(call.id for call in turn.calls) == sorted(given.call_id for given in turn.outputs)
            assert turn.calls or THOUGHT in turn.items
        else:
            assert turn.parts
    roles = [turn.role if isinstance(turn, Message) else "round" for turn in alternate(settled)]
    allowed = {"user": {"assistant", "round"}, "assistant": {"user"}, "round": {"assistant", "round"}}
    assert all(following in allowed[role] for role, following in itertools.pairwise(roles))


@unhurried
@given(_turns)
def test_no_word_is_lost_on_the_way(turns: list[Turn]) -> None:
    def words(some: list[Turn]) -> list[str]:
        items = [item for turn in some for item in (turn.parts if isinstance(turn, Message) else turn.items)]
        return [item.text for item in items if isinstance(item, Text) and item.text]

    settled = settle(turns, api="responses")
    assert words(alternate(settled)) == words(settled) == words(turns)


AUTO = Truncation()
A, B, C, D = (user(letter * 76) for letter in "abcd")
"""Of 23 tokens each: 4 and a quarter of 76."""


def test_the_tokens_of_these_messages() -> None:
    assert [estimate_tokens(turn) for turn in (A, B, C, D)] == [23] * 4


@pytest.mark.parametrize(
    ("limit", "kept", "fits"),
    [
        (None, [A, B, C, D], True),
        (92, [A, B, C, D], True),
        (91, [A, C, D], True),  # the middle goes first
        (69, [A, C, D], True),
        (68, [A, D], True),
        (46, [A, D], True),
        (45, [D], True),  # the newest is what is asked
        (23, [D], True),
        (22, [D], False),
        (0, [D], False),
    ],
)
def test_auto_drops_the_middle(limit: int | None, kept: list[Turn], fits: bool) -> None:
    fitted = fit([A, B, C, D], [], truncation=AUTO, max_prompt_tokens=limit)
    assert (list(fitted.turns), fitted.fits) == (kept, fits)
    assert fitted.estimated_tokens == 23 * len(kept)


def test_what_else_is_sent_counts_and_the_runs_own_rounds_stay() -> None:
    own = round_of(call_a="7")
    fitted = fit(
        [A, B, C], [own], truncation=AUTO, spoken_for_tokens=100, max_prompt_tokens=100 + 46 + estimate_tokens(own)
    )
    assert fitted.turns == (A, C, own)
    assert fitted.fits
    assert not fit([A, B, C], [own] * 9, truncation=AUTO, max_prompt_tokens=50).fits


def test_a_long_turn_in_the_middle_hides_the_older_ones() -> None:
    """What stays has no holes but one: an answer without its question misleads."""
    long = user("x" * 1000)
    assert fit([A, B, long, D], [], truncation=AUTO, max_prompt_tokens=200).turns == (A, D)


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (1, [D]),
        (2, [C, D]),
        (3, [B, round_of(call_a="7"), C, D]),
        (4, [A, B, round_of(call_a="7"), C, D]),
        (9, [A, B, round_of(call_a="7"), C, D]),
    ],
)
def test_last_messages_counts_messages(count: int, kept: list[Turn]) -> None:
    history = [A, B, round_of(call_a="7"), C, D]
    last = Truncation("last_messages", count)
    assert list(fit(history, [], truncation=last, max_prompt_tokens=None).turns) == kept


def test_last_messages_are_not_cut_further() -> None:
    last = Truncation("last_messages", 2)
    fitted = fit([A, B, C], [], truncation=last, max_prompt_tokens=30)
    assert (fitted.turns, fitted.fits) == ((B, C), False)


def test_an_empty_thread_fits() -> None:
    assert fit([], [], truncation=AUTO, max_prompt_tokens=0).fits


@pytest.mark.parametrize(
    ("turn", "tokens"),
    [
        (user("word " * 100), 129),
        (user("世" * 100), 109),  # one for a character, as tokenizers of 2024 do
        (user(ImageUrl("https://x/y.png", "low")), 89),
        (user(ImageUrl("data:image/png;base64," + "A" * 10**6)), 769),  # not its letters
        (user(ImageFile("file-1", "high")), 769),
        (round_of(THOUGHT, call_a="7"), 19),
    ],
)
def test_the_estimate_is_near(turn: Turn, tokens: int) -> None:
    assert estimate_tokens(turn) == tokens


@unhurried
@given(any_text, any_text)
def test_more_text_is_more_tokens(text: str, more: str) -> None:
    both = estimate_text_tokens(text + more)
    assert both >= estimate_text_tokens(text)
    assert both <= estimate_text_tokens(text) + estimate_text_tokens(more)
