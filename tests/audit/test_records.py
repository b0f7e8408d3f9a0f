"""From what a request has learnt to the facts of its records."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit import records
from gateway.audit.fold import Folded
from gateway.audit.policy import Level
from gateway.telemetry import Record


def learnt(**facts: Any) -> Record:
    record = Record("req_1", "POST", "/v1/threads/thread_1X/runs", client="10.0.0.1", client_request_id="job-1")
    record.note(tenant="alice", tenant_key="0123456789ab", operation="create_run", bytes_in=12, provider="main")
    record.note(
        vendor="openai", account="acme", public_ids=["thread_1X"], upstream_ids=["thread_1"], thread="thread_1X"
    )
    record.note(model="m", **facts)
    return record


IDENTITY = {
    "request_id": "req_1",
    "client_request_id": "job-1",
    "tenant": "alice",
    "tenant_key": "0123456789ab",
    "client": "10.0.0.1",
    "method": "POST",
    "path": "/v1/threads/thread_1X/runs",
    "operation": "create_run",
    "public_ids": ["thread_1X"],
    "upstream_ids": ["thread_1"],
    "thread": "thread_1X",
    "provider": "main",
    "vendor": "openai",
    "account": "acme",
    "model": "m",
    "level": "request",
}


def test_the_start_says_who_asks_what_of_whom() -> None:
    assert records.started(learnt(), Level.REQUEST) == IDENTITY


def test_the_end_says_what_came_of_it() -> None:
    record = learnt(status=200, bytes_out=34, public_id="run_1X", upstream_id="run_1", error="never recorded")
    record.begin_attempt("create_run", "main", "one")(200)
    facts = records.finished(record, Level.METADATA, has_started=True, duration_s=1.5)
    (attempt,) = facts.pop("attempts")
    assert attempt.items() >= {"key": "one", "provider": "main", "operation": "create_run", "status": 200}.items()
    again = (
        "request_id",
        "tenant",
        "operation",
        "public_ids",
        "upstream_ids",
        "thread",
        "provider",
        "account",
        "model",
    )
    assert facts == {
        **{name: IDENTITY[name] for name in again},
        "level": "metadata",
        "outcome": "done",
        "status": 200,
        "bytes_in": 12,
        "bytes_out": 34,
        "public_id": "run_1X",
        "upstream_id": "run_1",
        "attempts_total": 1,
        "duration_s": 1.5,
    }


def test_a_read_says_all_in_one_record() -> None:
    facts = records.finished(learnt(status=200), Level.REQUEST, has_started=False)
    assert facts.items() >= IDENTITY.items()


def test_a_stream_says_what_it_amounted_to() -> None:
    folded = Folded(9, 120, "thread_1X", "run_1X", "completed", {"total_tokens": 5})
    facts = records.finished(learnt(status=200), Level.METADATA, has_started=True, folded=folded)
    assert facts.items() >= {"events": 9, "text_length": 120, "run": "run_1X", "run_status": "completed"}.items()
    assert facts["usage"] == {"total_tokens": 5}


def test_a_list_on_a_shared_account_does_not_make_a_record_endless() -> None:
    record = learnt(status=200)
    record.attempts.extend({"key": "one"} for _ in range(500))
    facts = records.finished(record, Level.METADATA, has_started=False)
    assert (len(facts["attempts"]), facts["attempts_total"]) == (20, 500)


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({"status": 200}, "done"),
        ({"status": 404, "error_source": "caller"}, "refused"),
        ({"status": 404}, "refused"),  # the provider's words
        ({"status": 500, "error_source": "gateway", "error_code": "internal_error"}, "crashed"),
        ({"outcome": "caller_left"}, "caller_left"),
        ({"outcome": "caller_left", "first_byte_s": 0.1}, "aborted"),
        ({"outcome": "broken_off", "status": 200, "error_source": "provider"}, "cut"),
        ({"outcome": "broken_off", "status": 200}, "aborted"),
        ({"outcome": "stopped"}, "broken_off"),
        ({"outcome": "stopped", "first_byte_s": 0.1, "status": 200}, "broken_off"),
    ],
)
def test_how_a_request_ended(facts: dict[str, Any], outcome: str) -> None:
    assert records.outcome_of(facts) == outcome


def test_acts_and_reloads_have_no_empty_facts_and_none_named_as_the_record_itself() -> None:
    told = [
        records.operator_acted(who="ann@host", act="rest", what="key", name="main/acme/one", acted_s=17),
        records.config_reloaded(reason="SIGHUP", digest="abc"),
        records.run_settled(
            run="run_1", thread="thread_1", tenant="alice", provider="main", account="acme", run_status="failed"
        ),
    ]
    assert told[0] == {"who": "ann@host", "act": "rest", "what": "key", "name": "main/acme/one", "acted_s": 17}
    assert told[1] == {"reason": "SIGHUP", "digest": "abc"}
    assert not {"v", "seq", "time", "kind", "prev", "h"} & {name for facts in told for name in facts}
