"""What every dialect of every model API must do; found, not listed."""

from __future__ import annotations

import copy

import orjson
import pytest

from gateway.engine.models import MODEL_APIS
from gateway.engine.models.generation import Carried, Failure, Function, Text
from gateway.engine.models.model_api import ModelApi
from tests.engine.models.values import assistant, generation, round_of, user

ALL = {f"{api}, {name}": dialect for api, dialects in MODEL_APIS.items() for name, dialect in dialects.items()}

ASKED = generation(
    user("What is the weather in Bonn?"),
    assistant("I shall look."),
    round_of(Carried("elsewhere", {"secret": "not yours"}), call_a="rain"),
    assistant("Rain."),
    user("And in Rome?"),
    round_of(Text("One moment."), call_b=None),
    user("Well?"),
    instructions="Be brief.",
    tools=(Function("weather", "Tells it", {"type": "object", "properties": {}}),),
    tool_choice="auto",
    max_completion_tokens=256,
)


@pytest.fixture(params=ALL.values(), ids=ALL)
def dialect(request: pytest.FixtureRequest) -> ModelApi:
    found: ModelApi = request.param
    return found


def test_some_are_found() -> None:
    assert MODEL_APIS["chat_completions"]["openai"]


def test_a_conversation_becomes_a_request(dialect: ModelApi) -> None:
    """Every word is in it, nothing of another API's, and the same is asked twice in the same words."""
    before = copy.deepcopy(ASKED)
    request = dialect.build(ASKED)
    assert request == dialect.build(ASKED)
    assert before == ASKED
    assert request.path.startswith("/")
    assert type(orjson.loads(request.body)) is dict
    for words in (b"Bonn", b"I shall look.", b"rain", b"And in Rome?", b"One moment.", b"Well?", b"Be brief.", b"256"):
        assert words in request.body
    assert b"not yours" not in request.body


def test_what_it_asks_it_may_be_asked(dialect: ModelApi) -> None:
    assert dialect.faults({"model": "m", "instructions": "Be brief.", "tools": [], "temperature": None}) == ()


def test_an_answer_that_never_came_is_one_failure(dialect: ModelApi) -> None:
    reader = dialect.read(str)
    assert not reader.is_over
    assert not reader.is_answered
    assert reader.cut("too slow") == [Failure("server_error", "too slow")]
    assert (reader.is_over, reader.feed(b"data: 1\n\n"), reader.close(), reader.cut("again")) == (True, [], [], [])
    (failure,) = dialect.read(str).close()
    assert isinstance(failure, Failure)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_prompt"), (401, "server_error"), (429, "rate_limit_exceeded"), (503, "server_error")],
)
def test_a_refusal_has_one_of_three_codes(dialect: ModelApi, status: int, code: str) -> None:
    raw = b'{"error":{"message":"what about sk-abcdefgh1234"}}'
    failure = dialect.failure(status, {"retry-after": "7"}, raw, now=0)
    assert (failure.code, failure.retry_after_s) == (code, 7.0)
    assert "abcdefgh" not in failure.message
