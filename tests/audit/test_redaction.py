"""What may stand in the trail as itself. Every claim is tried against texts made to break it."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.hmac_key import HmacKey
from gateway.audit.patterns import fault_of
from gateway.audit.redaction import Before, Redactor, steps_of
from gateway.config import AuditRedact
from tests.values import any_json, any_text, unhurried

KEY = HmacKey.of("the key of an installation")
TENANT_KEYS = {"correct-horse-battery", "tg/live+0123456789"}
REDACTOR = Redactor(KEY, AuditRedact(), is_key=TENANT_KEYS.__contains__)
OWN = Redactor(KEY, AuditRedact(patterns=["email", "card", "key", r"EMP-\d{4,6}+"]), is_key=TENANT_KEYS.__contains__)

SECRETS = [
    "sk-proj-0123456789abcdef",
    "sk_live_51Habcdefgh",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "ghp_0123456789abcdefABCDEF",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-123456789012-abcdef",
    "bob@example.com",
    "jürgen.müller+x@post.example.de",
    "4111111111111111",
    "4111 1111 1111 1111",
    "3782-822463-10005",
    "5555-5555-5555-4444",
    "correct-horse-battery",
    "tg/live+0123456789",
]
secrets = st.sampled_from(SECRETS)
between = st.sampled_from([" ", "\n", '"', ", ", " 7 ", " - ", "(", ") ", "; ", "\t", " ü "])
surroundings = st.text(st.characters(exclude_categories=("L", "N", "Pc"), exclude_characters="@.%+-_/~:=\\|"))

RECORD: dict[str, Any] = {
    "request_id": "req_" + "0" * 32,
    "client_request_id": "job-17",
    "tenant": "alice",
    "tenant_key": "0123456789ab",
    "client": "2001:db8::1",
    "method": "POST",
    "path": "/providers/main/v1/threads/thread_abcXYZ/messages",
    "operation": "create_message",
    "public_ids": ["thread_abcXYZ"],
    "upstream_ids": ["thread_abc"],
    "thread": "thread_abcXYZ",
    "public_id": "msg_1XYZ",
    "provider": "main",
    "account": "acme",
    "model": "gpt-4o-mini",
    "status": 200,
    "outcome": "done",
    "attempts": [{"key": "one", "provider": "main", "operation": "create_message", "status": 200, "duration_s": 0.25}],
    "attempts_total": 1,
    "bytes_in": 120,
    "first_byte_s": 0.5,
    "usage": {"total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}},
}


def is_marked(value: Any) -> bool:
    return type(value) is str and value.startswith(f"hmac:{KEY.kid}:") and len(value) == 46


# --- records ----------------------------------------------------------------------------------------------------------
def test_what_a_record_is_made_of_stands_as_it_is() -> None:
    redactor = Redactor(KEY, AuditRedact(), words=["main"])
    assert redactor.facts(RECORD) == RECORD


def test_a_fact_that_nobody_has_heard_of_is_marked() -> None:
    shown = REDACTOR.facts({"brand_new": "canary", "nested": {"a": ["canary"]}, "count": 7})
    assert all(map(is_marked, shown.values()))
    assert shown["brand_new"] == KEY.mark("canary")
    assert shown["count"] == KEY.mark("7")


def test_a_fact_may_be_made_clear_and_patterns_count_all_the_same() -> None:
    redactor = Redactor(KEY, AuditRedact(clear=["brand_new"]))
    assert redactor.facts({"brand_new": "canary of bob@example.com"}) == {
        "brand_new": f"canary of {KEY.mark('bob@example.com')}"
    }


def test_a_path_marks_a_fact_of_that_name() -> None:
    assert is_marked(Redactor(KEY, AuditRedact(paths=["client"])).facts({"client": "10.0.0.1"})["client"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_id", "mine"),
        ("tenant", "two words"),
        ("status", "200"),
        ("status", [200]),
        ("client", "canary"),
        ("method", "GET\n"),
        ("public_ids", {"a": 1}),
        ("public_ids", ["hunter2"]),
        ("public_id", "correct horse"),
        ("attempts", "canary"),
        ("usage", "canary"),
        ("path", 5),
        ("error_code", "the key sk-0123456789 is wrong"),
        ("bytes_in", 2**70),
    ],
)
def test_a_clear_fact_that_does_not_look_as_it_should_is_marked(name: str, value: Any) -> None:
    shown = REDACTOR.facts({name: value})[name]
    assert is_marked(shown[0] if type(shown) is list else shown)


def test_an_unknown_field_of_an_attempt_or_of_usage_is_marked() -> None:
    shown = REDACTOR.facts(
        {"attempts": [{"key": "one", "url": "canary"}, "canary"], "usage": {"note": "canary", "n": 1}}
    )
    assert shown["attempts"][0]["key"] == "one"
    assert is_marked(shown["attempts"][0]["url"])
    assert is_marked(shown["attempts"][1])
    assert is_marked(shown["usage"]["note"])
    assert shown["usage"]["n"] == 1


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        ({"path": "/v1/threads/hunter2/runs"}, "/v1/threads/{}/runs"),  # nobody has verified it
        ({"path": "/v1/threads/thread_abc/runs"}, "/v1/threads/thread_abc/runs"),
        ({"path": "/v1/hunter2"}, "/v1/{}"),
        ({"path": "/v1/threads/hunter2", "public_ids": ["hunter2"]}, "/v1/threads/{}"),
        ({"path": "/v1/threads/hunter2", "public_ids": ["hunter2"], "upstream_ids": ["h"]}, "/v1/threads/hunter2"),
        ({"path": "/v1/threads/h%75nter2"}, "/v1/threads/{}"),
    ],
)
def test_a_path_is_words_of_the_api_and_ids(facts: dict[str, Any], path: str) -> None:
    assert REDACTOR.facts(facts)["path"] == path.format(KEY.mark("hunter2"))


def test_an_id_that_looks_like_none_stands_once_it_is_verified() -> None:
    """Whoever asked for it before without being its owner."""
    redactor = Redactor(KEY, AuditRedact())
    assert is_marked(redactor.facts({"public_ids": ["7f3a"]})["public_ids"][0])
    assert redactor.facts({"public_ids": ["7f3a"], "upstream_ids": ["7f"], "thread": "7f3a"})["thread"] == "7f3a"


def test_an_operator_is_named_though_a_host_looks_like_an_address() -> None:
    assert REDACTOR.facts({"who": "ann@host.example.com"})["who"] == "ann@host.example.com"


@unhurried
@given(st.dictionaries(st.sampled_from([*RECORD, "error", "who", "reason"]) | any_text, any_json | secrets))
def test_facts_never_raise_and_marking_twice_is_marking_once(facts: dict[str, Any]) -> None:
    once = OWN.facts(facts)
    assert OWN.facts(once) == once
    orjson.dumps(once)  # whatever came, the writer can write it


@unhurried
@given(st.sampled_from(sorted(RECORD.keys() - {"upstream_ids"})), secrets)
def test_no_fact_lets_a_secret_through(name: str, secret: str) -> None:
    """Ids of a request that was located are left out: their signatures were verified."""
    unlocated = {each: value for each, value in RECORD.items() if each != "upstream_ids"}
    for planted in (secret, [secret], {"a": secret}, f"x {secret}", f"/v1/threads/{secret}"):
        assert secret.encode() not in orjson.dumps(REDACTOR.facts(unlocated | {name: planted}))


# --- bodies -----------------------------------------------------------------------------------------------------------
@unhurried
@given(st.lists(st.tuples(surroundings, between, secrets, between), min_size=1, max_size=4))
def test_no_text_lets_a_secret_through(parts: list[tuple[str, str, str, str]]) -> None:
    text = "".join(f"{before}{left}{secret}{right}" for before, left, secret, right in parts)
    shown = OWN.text(text)
    for _, _, secret, _ in parts:
        assert secret not in shown
    assert OWN.text(shown) == shown


@unhurried
@given(any_text)
def test_marking_a_text_twice_is_marking_it_once(text: str) -> None:
    once = OWN.text(text)
    assert OWN.text(once) == once


ODD = st.lists(
    st.sampled_from([*"a4 .-@:_\n", "sk-", "4111 1111 1111 1111", "bob@x.de", "Bearer ", "hmac:", "EMP-1234"])
).map("".join)


@unhurried
@given(ODD)
def test_marking_twice_is_marking_once_where_patterns_meet(text: str) -> None:
    once = OWN.text(text)
    assert OWN.text(once) == once


@unhurried
@given(any_json)
def test_a_document_never_raises_and_is_not_changed_itself(document: Any) -> None:
    before = repr(document)
    once = OWN.document(document)
    assert repr(document) == before
    assert OWN.document(once) == once


def test_a_document_stands_but_for_what_is_marked() -> None:
    body = {
        "messages": [{"role": "user", "content": "I am bob@example.com", "metadata": {"ssn": "078-05-1120", "n": 5}}],
        "thread": {"metadata": {"a": {"deep": "canary"}, "none": None}},
        "card": 4111111111111111,
        "bob@example.com": 1,
        "count": 1_700_000_000_000,
    }
    assert REDACTOR.document(body) == {
        "messages": [
            {
                "role": "user",
                "content": f"I am {KEY.mark('bob@example.com')}",
                "metadata": {"ssn": KEY.mark("078-05-1120"), "n": KEY.mark("5")},
            }
        ],
        "thread": {"metadata": {"a": KEY.mark('{"deep":"canary"}'), "none": None}},
        "card": KEY.mark("4111111111111111"),
        KEY.mark("bob@example.com"): 1,
        "count": 1_700_000_000_000,
    }


@pytest.mark.parametrize(
    ("path", "marked"),
    [
        ("content", {"a", "b", "c"}),
        ("messages.content", {"a", "b"}),
        ("messages[*].content", {"a", "b"}),
        ("$.messages.content", {"a"}),
        ("$.thread.*.content", {"b"}),
        ("thread.messages.*", {"b"}),
        ("*.content", {"a", "b", "c"}),
    ],
)
def test_paths_say_which_fields(path: str, marked: set[str]) -> None:
    body = {
        "messages": [{"content": "a"}],
        "thread": {"messages": [{"content": "b"}]},
        "x": {"y": {"content": "c"}},
    }
    shown = orjson.dumps(Redactor(KEY, AuditRedact(paths=[path])).document(body)).decode()
    assert {value for value in "abc" if f'"{value}"' not in shown} == marked


@pytest.mark.parametrize("wrong", ["", "a..b", ".a", "a b", "$", "*", "a[0]", "$.$.a", "a.*b"])
def test_what_is_no_path_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        steps_of(wrong)


@pytest.mark.parametrize(
    "innocent",
    [
        "task-based learning, desk-1234567890 and risk-averse people",
        "13 digits: 1700000000000, 20: 12345678901234567890, 16 that fail: 4111111111111112",
        "a@b is no address, nor is @here",
        "the bearer of bad news",
        "tel. 030 123456, 2026-11-22 03:14:15",
        "thread_abc123Xk4p0f3c9a0f3c9a0f3c9a0f",
    ],
)
def test_what_is_no_secret_stays(innocent: str) -> None:
    assert REDACTOR.text(innocent) == innocent


def test_the_scheme_stays_and_the_token_goes() -> None:
    assert REDACTOR.text("Authorization: Bearer abc.def-123") == f"Authorization: Bearer {KEY.mark('abc.def-123')}"


HOSTILE = {
    **{
        f"{word!r} over and over": word * (1_000_000 // len(word))
        for word in ("a", "a@", "@", "a.", "a@b.", "1", "11 ")
    },
    **{
        f"{word!r} over and over": word * (1_000_000 // len(word))
        for word in ("111-", "4111 ", "sk-", "Bearer ", "eyJa.")
    },
    "an address without an end": "a@" + "b." * 500_000,
    "blanks": "Bearer" + " " * 1_000_000,
    "words that may be keys": "correct-horse-batter " * 47_000,
    "own": "EMP-1" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_is_slow(text: str) -> None:
    """All of it takes ten times what a tenth of it takes, or less than forty times; quadratic would be a hundred. Of
    several tries the best counts: a machine has other things to do."""

    def seconds(text: str) -> float:
        began = time.process_time()
        OWN.text(text)
        return time.process_time() - began

    whole = text[:400_000]
    limit_s = max(40 * max(seconds(whole[:40_000]) for _ in range(3)), 0.2)
    assert any(seconds(whole) < limit_s for _ in range(3))


@pytest.mark.parametrize(
    "good", ["email", "card", "key", r"EMP-\d{6}", r"\bK[A-Z]{2,8}+\b", r"a|b\.c", "[^a-f]{3}x?+", "x{256}"]
)
def test_an_expression_that_cannot_be_slow_is_taken(good: str) -> None:
    assert fault_of(good) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        *(
            (slow, "only characters, classes")
            for slow in ("a*", "a+", "a++", "(a|a)", "a{2,5}", "a?", r"(a)\1", "a{2}{2}")
        ),
        *((open_, "only characters, classes") for open_ in ("[a", "a)", "{3}", "a{,3}+", "^*")),
        ("x{257}", "more than 256"),
        ("[a-z]{1,200}+[a-z]{1,200}+", "more than 256"),
        ("a?+", "matches an empty text"),
        ("a|", "matches an empty text"),
        ("[z-a]", "bad character range"),
    ],
)
def test_an_expression_that_may_be_slow_is_refused(wrong: str, told: str) -> None:
    assert told in (fault_of(wrong) or "")


def test_what_is_remembered_is_bounded() -> None:
    redactor = Redactor(KEY, AuditRedact())
    for number in range(40_000):
        redactor.facts({"client_request_id": f"job-{number}", "new": f"value {number}"})
    assert max(len(redactor._shown), len(redactor._marks)) <= 16_384


def test_what_a_request_has_told_already_is_shown_the_same_and_what_changed_is_not() -> None:
    redactor = Redactor(KEY, AuditRedact())
    told = {"tenant": "shop", "upstream_ids": ["thread_1"], "model": "sk-0123456789abcdef", "new": "x"}
    before = Before(told, redactor.facts(told))
    now = {**told, "model": "bob@example.com", "status": 200}
    assert redactor.facts(now, before) == redactor.facts(now)
