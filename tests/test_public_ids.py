"""Ids in fields and in a vendor's sentences."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.public_ids import PublicIds, rewrite_all_prose
from gateway.shapes import BY_PREFIX, PROSE
from tests.values import SIGNER, located, public, public_ids, target, unhurried

LONG = "abc123abc123abc123abc123"
THREAD, RUN = f"thread_{LONG}", f"run_{LONG}"
ASKED = located(f"GET /v1/threads/{public(THREAD)}/runs/{public('r1', 'run')}")
PUBLIC = public_ids(ASKED)
RAW_PUBLIC = public_ids(located(f"GET /v1/threads/{THREAD}", tenant="carol"), tenant="carol")


def test_an_id_in_a_field_is_signed_for_the_caller_and_the_account() -> None:
    assert PUBLIC("message", "msg_1") == public("msg_1", "message")
    assert PUBLIC("message", "msg_1") == PUBLIC("message", "msg_1")
    assert PUBLIC("run", "msg_1") == public("msg_1", "run")  # the field tells the kind, never the prefix


def test_an_answer_is_spelt_with_the_key_of_the_requests_id() -> None:
    later = public_ids(located(f"GET /v1/threads/{public(THREAD, key=1)}"))
    assert later("message", "msg_1") == public("msg_1", "message", key=1)
    assert later.in_prose(f"No run found with id '{RUN}'.") == f"No run found with id '{public(RUN, 'run', key=1)}'."


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (f"asst_{LONG}", "assistant"),
        (f"thread_{LONG}", "thread"),
        (f"msg_{LONG}", "message"),
        (f"run_{LONG}", "run"),
        (f"step_{LONG}", "step"),
        (f"file-{LONG}", "file"),
        (f"assistant-{LONG}", "file"),  # Azure's
        (f"vs_{LONG}", "vector_store"),
        (f"vsfb_{LONG}", "batch"),
        (f"thread_x-y_{LONG}", "thread"),
    ],
)
def test_an_id_in_an_unknown_object_is_known_by_its_prefix(value: str, kind: str) -> None:
    assert PUBLIC(BY_PREFIX, value) == public(value, kind)


@pytest.mark.parametrize(
    "value", [f"call_{LONG}", f"req_{LONG}", LONG, "thread_short", "", f"my thread_{LONG}", f"thread_{LONG} "]
)
def test_what_has_no_ids_prefix_or_length_stays(value: str) -> None:
    assert PUBLIC(BY_PREFIX, value) == value


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        # ids of the request, exactly
        ("Thread {THREAD} is busy", "Thread {thread} is busy"),
        ("{THREAD}", "{thread}"),
        ("({THREAD}), {THREAD}.", "({thread}), {thread}."),
        ("x{THREAD} {THREAD}x {THREAD}-1", "x{THREAD} thread_*** {thread_1}"),  # other words
        # a short id of the request only in quotes
        ("run 'r1' failed", "run '{r1}' failed"),
        ("run r1 failed with r1", "run r1 failed with r1"),
        # OpenAI's sentences
        ("No run found with id 'r1'.", "No run found with id '{r1}'."),
        ("No thread found with id 'new'.", "No thread found with id '***'."),
        ("No run step found with id 'step_1'.", "No run step found with id '{step}'."),
        ("No vector store found with id 'vs_1'.", "No vector store found with id 'vs_***'."),
        ("No file batch found with id 'b'.", "No file batch found with id '{batch}'."),
        (
            "Can't add messages to {THREAD} while a run run_2 is active.",
            "Can't add messages to {thread} while a run {run_2} is active.",
        ),
        (
            "Can't add messages to thread t2 while a run r1 is active.",
            "Can't add messages to thread *** while a run {r1} is active.",
        ),
        ("Thread t2 already has an active run run_2.", "Thread *** already has an active run {run_2}."),
        ("Thread {THREAD} already has an active run {RUN}.", "Thread {thread} already has an active run {run}."),
        ("{THREAD} has an active run run_2", "{thread} has an active run {run_2}"),
        ("'{THREAD}' has an active run run_2. Wait", "'{thread}' has an active run {run_2}. Wait"),
        (
            "t2 has an active run run_2; has an active run 'run_2'",
            "t2 has an active run {run_2}; has an active run 'run_2'",
        ),
        # long words with an id's beginning, whatever the sentence
        ("see {RUN}, {RUN}!", "see {run}, {run}!"),
        ("file 'file-{LONG}' is gone", "file 'file-***' is gone"),
        # what may be the caller's own words
        ("Invalid 'thread_id': 'new'. Expected an ID that begins with 'thread'.",) * 2,
        ("thread_short run_2 file-1 asst_x",) * 2,
        ("thread_with_many_words_and_underscores_in_it",) * 2,
        ("Expected tool outputs for call_ids ['call_A', 'call_{LONG}'], got ['call_A']",) * 2,
        ("No widget found with id 'w_1'",) * 2,
        ('Runs in status "in_progress" do not accept tool outputs.',) * 2,
        ("sandbox:/mnt/data/x.png",) * 2,
        ("",) * 2,
        # already public: signed twice it would be nobody's
        ("{thread} and {thread_of_old}",) * 2,
        ("No thread found with id '{thread_of_old}'.",) * 2,
        ("No thread found with id '{thread}'.",) * 2,
        ("Thread {thread} already has an active run {run}.",) * 2,
        # what may be another tenant's: the vendor says what it was told
        ("No thread found with id '{THREAD}' or {foreign}", "No thread found with id '{thread}' or thread_***"),
        ("The model 'asst_{LONG}' does not exist", "The model 'asst_***' does not exist"),
    ],
)
def test_ids_in_a_vendors_sentence_become_public(sentence: str, told: str) -> None:
    foreign = public(THREAD, tenant="bob")
    words = {
        "LONG": LONG,
        "THREAD": THREAD,
        "RUN": RUN,
        "thread": public(THREAD),
        "thread_1": f"{THREAD}-1",  # ends in less than sixteen letters and digits
        "thread_of_old": public("thread_9", key=1),
        "foreign": foreign,
        "run": public(RUN, "run"),
        "r1": public("r1", "run"),
        "run_2": public("run_2", "run"),
        "step": public("step_1", "step"),
        "batch": public("b", "batch"),
    }
    names = public_ids(ASKED)
    assert names.in_prose(sentence.format(**words)) == told.format(**words)
    assert names(PROSE, sentence.format(**words)) == told.format(**words)


def test_a_sentence_names_what_the_answer_has_in_a_field() -> None:
    """A run that failed says of which file, and one's own account says all."""
    sentence, file = f"file 'file-{LONG}' is gone", public(f"file-{LONG}", "file")
    names = public_ids(ASKED)
    assert names("file", f"file-{LONG}") == file
    assert names.in_prose(sentence) == f"file '{file}' is gone"
    own = located("GET /v1/assistants", tenant="carol")
    file = public(f"file-{LONG}", "file", tenant="carol", at=own.target)
    assert public_ids(own, tenant="carol").in_prose(sentence) == f"file '{file}' is gone"


def test_an_id_is_told_as_the_caller_wrote_it() -> None:
    """Not as the answer's own spelling would have it."""
    asked = located(f"GET /v1/threads/{public(THREAD)}/runs/{public(RUN, 'run', key=1)}")
    assert public_ids(asked).in_prose(f"{THREAD} {RUN}") == f"{public(THREAD)} {public(RUN, 'run', key=1)}"


def test_raw_ids_stay_raw() -> None:
    sentence = f"Thread {THREAD} already has an active run {RUN}."
    assert RAW_PUBLIC.in_prose(sentence) == sentence
    assert RAW_PUBLIC("message", "msg_1") == "msg_1"


@unhurried
@given(st.text(max_size=60), st.sampled_from([THREAD, RUN, "r1", "'r1'", "No run found with id 'r1'", "sk-abcdefgh"]))
def test_a_rewritten_sentence_stays_as_it_is(before: str, inside: str) -> None:
    """Rewriting twice is rewriting once."""
    once = PUBLIC.in_prose(f"{before} {inside} {before}")
    assert PUBLIC.in_prose(once) == once


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("Incorrect API key provided: sk-abc123DEF. See", "Incorrect API key provided: sk-***. See"),
        ("key sk-proj-abc_DEF-123", "key sk-***"),
        ("key sk-abc*****xyz", "key sk-***"),
        ("key 'sk-ant-api03-x_y'", "key 'sk-***'"),
        ("for org-AbCdEf123 in proj_AbCdEf123", "for org-*** in proj-***"),
        ("organization org_abcdefgh, project proj-abcdefgh", "organization org-***, project proj-***"),
        ("(sk-abcdefgh)", "(sk-***)"),
        ("key=sk-abcdefgh", "key=sk-***"),
        ("risk-averse task-list project org. sk-learn org-wide",) * 2,  # no secrets
    ],
)
def test_secrets_in_a_vendors_sentence_are_masked(sentence: str, told: str) -> None:
    assert PUBLIC.in_prose(sentence) == told
    assert RAW_PUBLIC.in_prose(sentence) == told


def test_all_texts_of_an_errors_further_fields_are_prose() -> None:
    given = {"a": [THREAD, 1, None, {"b": "sk-abcdefgh"}], THREAD: True}
    told = {"a": [public(THREAD), 1, None, {"b": "sk-***"}], THREAD: True}
    assert rewrite_all_prose(given, PUBLIC.in_prose) == told


def test_an_id_is_signed_once_an_answer() -> None:
    """Lists repeat the ids of their thread in every item."""

    class Counting:
        signed = 0

        def sign(self, *args: object, **kwargs: object) -> str:
            self.signed += 1
            return SIGNER.sign(*args, **kwargs)  # type: ignore[arg-type]

    signer = Counting()
    names = PublicIds(signer, tenant="alice-of-old", located=located())  # type: ignore[arg-type]
    assert {names("thread", "thread_1") for _ in range(50)} == {public("thread_1")}
    assert signer.signed == 1
    assert target().account.route in names("run", "thread_1")


@pytest.mark.parametrize(
    "text",
    [
        "thread_" + "a" * 200_000 + "_",
        "thread_" * 30_000,
        "thread_a-" * 20_000,
        "sk-" + "." * 200_000,
        "sk-" * 70_000,
        "No " + "a" * 200_000,
        "No a found with id '" * 10_000,
        "to thread x " * 20_000,
        "has an active run " * 15_000,
        "has an active run " + "." * 200_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_sentence_takes_no_longer_than_any_other(text: str) -> None:
    """The time must grow with the length and not with its square, or one vendor's answer stops everybody."""
    began = time.perf_counter()
    PUBLIC.in_prose(text)
    assert time.perf_counter() - began < 1
