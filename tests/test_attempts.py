"""What is sent again and what never is; what callers and the log are told of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import openai
import pytest
from aiohttp import web

from gateway.attempts import Attempts
from tests.conftest import Events, Running, StartGateway, StartVendor, Vendor, edit
from tests.simulators import faults
from tests.simulators.faults import Act, Exchange
from tests.simulators.threads_server.server import Reply
from tests.wire import Provider, Wire

IMPATIENT = edit(providers__openai__timeouts={"connect_s": 0.2, "first_byte_s": 0.1})

# The SDK marks every Assistants method as deprecated, in words that vary.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def say_nothing(*, applied: bool = True) -> Act:
    async def act(exchange: Exchange) -> web.StreamResponse:
        if applied:
            exchange.work()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets this event")

    return act


SILENT: dict[str, tuple[Act, int, str]] = {
    "cut before answer": (faults.cut_before_answer(), 502, "provider_unreachable"),
    "reset before answer": (faults.cut_before_answer(reset=True), 502, "provider_unreachable"),
    "cut in the body": (faults.cut(20), 502, "provider_broken_answer"),
    "too slow": (say_nothing(), 504, "provider_timeout"),
    "HTML": (faults.garbage(b"<html>all is well</html>"), 502, "provider_broken_answer"),
    "JSON, no object": (faults.garbage(b"[1]", "application/json"), 502, "provider_broken_answer"),
}
"""Ways to do the work without a usable answer; what callers are told when nothing else came."""

SPOKEN: dict[str, tuple[Act, int]] = {
    str(code): (faults.status(code, applied=True), code) for code in (408, 500, 502, 503, 504)
}
"""Answers that say nothing of whether the work was done."""

KEY_FAULTS: dict[str, Act] = {
    "401": faults.status(
        401, {"error": {"message": "Incorrect API key provided: sk-op*me", "code": "invalid_api_key"}}
    ),
    "401 without words": faults.status(401, b"", content_type="text/plain"),
    "402": faults.status(402, {"message": "Pay sk-openai-acme-one first."}),
    "insufficient_quota": faults.status(429, {"error": {"message": "You exceeded…", "code": "insufficient_quota"}}),
    "billing limit": faults.status(429, {"error": {"message": "Limit", "code": "billing_hard_limit_reached"}}),
}


class Pauses(list[float]):
    """The pauses between attempts, in seconds. They end at once; `meanwhile` runs in each."""

    async def __call__(self, pause_s: float) -> None:
        self.append(pause_s)
        await self.meanwhile()

    async def meanwhile(self) -> None:
        return


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    made = Pauses()
    monkeypatch.setattr("gateway.app.Attempts", partial(Attempts, pause=made))
    return made


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
async def gateway(start_gateway: StartGateway, vendor: Vendor) -> Running:
    return await start_gateway(vendor, change=IMPATIENT)


async def new_thread(gateway: Running) -> str:
    status, thread, _ = await gateway.call("POST", "/v1/threads", {})
    assert status == 200
    return str(thread["id"])


def attempts(events: Events) -> list[tuple[str, Any]]:
    """Key and outcome of every attempt of the last request."""
    told = events.named("request.done")[-1]["attempts"]
    assert all(attempt["provider"] and attempt["duration_s"] >= 0 for attempt in told)
    return [(attempt["key"], attempt.get("status") or attempt["error"]) for attempt in told]


# ---- what may be sent again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("fault", [*SILENT, *SPOKEN])
async def test_what_is_safe_is_sent_again(
    method: str, fault: str, gateway: Running, vendor: Vendor, events: Events, pauses: Pauses
) -> None:
    """A deletion whose first answer was lost finds nothing the second time: that is its success."""
    thread = await new_thread(gateway)
    act, _, code = SILENT[fault] if fault in SILENT else (*SPOKEN[fault], None)
    hit = vendor.simulator.faults.add(act, method=method)
    status, answer, headers = await gateway.call(method, f"/v1/threads/{thread}")
    assert (status, answer["id"]) == (200, thread)
    assert "x-should-retry" not in headers
    if method == "DELETE":
        assert answer == {"id": thread, "object": "thread.deleted", "deleted": True}
        assert (await gateway.call("GET", f"/v1/threads/{thread}"))[0] == 404
        events.pop()
    (first,) = hit.hits
    second = 404 if method == "DELETE" else 200
    assert attempts(events) == [("two", code or int(fault)), ("one", second)]
    assert first.key == vendor.keys[1]
    assert [0.05 <= pause <= 0.1 for pause in pauses] == [True]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("fault", [*SILENT, *SPOKEN])
async def test_attempts_end_and_the_last_words_are_told(
    method: str, fault: str, gateway: Running, vendor: Vendor, events: Events, pauses: Pauses
) -> None:
    thread = await new_thread(gateway)
    act, expected, code = SILENT[fault] if fault in SILENT else (*SPOKEN[fault], None)
    if method == "DELETE":
        act = without_work(fault)  # so that none of them finds the thread gone
    hits = vendor.simulator.faults.add(act, method=method, times=None).hits
    status, answer, headers = await gateway.call(method, f"/v1/threads/{thread}")
    assert (status, answer["error"]["code"]) == (expected, code)
    assert ("Simulated" in answer["error"]["message"]) is (fault in SPOKEN)
    assert "x-should-retry" not in headers
    assert len(hits) == 3
    assert [outcome for _, outcome in attempts(events)] == [code or expected] * 3
    assert len(pauses) == 2
    (line,) = events.named("request.done")[-1:]
    assert (line["error_source"], line["status"], line["level"]) == ("provider", expected, "warning")


def without_work(fault: str) -> Act:
    """The same fault, but nothing was done."""
    if fault in SPOKEN:
        return faults.status(int(fault))
    return {
        "cut before answer": faults.cut_before_work(),
        "reset before answer": faults.cut_before_work(reset=True),
        "cut in the body": cut_without_work,
        "too slow": say_nothing(applied=False),
        "HTML": faults.garbage(b"<p>", applied=False),
        "JSON, no object": faults.garbage(b"[1]", applied=False),
    }[fault]


async def cut_without_work(exchange: Exchange) -> web.StreamResponse:
    async def beginning() -> AsyncGenerator[bytes, None]:
        yield b'{"id": '
        await exchange.abort()

    return await exchange.send(Reply(200, {"Content-Type": "application/json"}, b" " * 20), beginning())


async def test_a_deletion_may_answer_with_nothing(gateway: Running, vendor: Vendor) -> None:
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.garbage(b"", "text/plain"), method="DELETE")
    status, answer, _ = await gateway.call("DELETE", f"/v1/threads/{thread}")
    assert (status, answer) == (200, {"id": thread, "object": "thread.deleted", "deleted": True})
    assert len(vendor.simulator.journal) == 2


async def test_a_deletion_of_nothing_is_not_found(gateway: Running, vendor: Vendor) -> None:
    """Neither at first nor after an attempt that certainly did nothing."""
    thread = await new_thread(gateway)
    await gateway.call("DELETE", f"/v1/threads/{thread}")
    assert (await gateway.call("DELETE", f"/v1/threads/{thread}"))[0] == 404
    vendor.simulator.faults.add(KEY_FAULTS["401"], method="DELETE")
    assert (await gateway.call("DELETE", f"/v1/threads/{thread}"))[0] == 404


async def test_the_last_own_answer_of_a_provider_is_better_than_none(gateway: Running, vendor: Vendor) -> None:
    """When words came once and then nothing any more, the caller gets the words."""
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.status(503, headers={"retry-after": "7"}), method="GET")
    vendor.simulator.faults.add(faults.cut_before_work(), method="GET", times=None)
    status, answer, headers = await gateway.call("GET", f"/v1/threads/{thread}")
    assert (status, answer["error"]["message"], headers["retry-after"]) == (503, "Simulated 503.", "7")


async def test_a_pause_is_as_long_as_the_provider_asks_within_reason(
    gateway: Running, vendor: Vendor, pauses: Pauses
) -> None:
    thread = await new_thread(gateway)
    for asked in ("1.5", "3600", "Wed, 21 Oct 2026 07:28:00 GMT"):
        pauses.clear()
        vendor.simulator.faults.add(faults.status(503, headers={"retry-after": asked}), method="GET")
        assert (await gateway.call("GET", f"/v1/threads/{thread}"))[0] == 200
        (pause_s,) = pauses
        assert pause_s == 1.5 if asked == "1.5" else pause_s <= 0.1


async def test_all_attempts_together_have_an_end(start_gateway: StartGateway, vendor: Vendor, events: Events) -> None:
    gateway = await start_gateway(vendor, change=edit(providers__openai__timeouts={"total_s": 0.15}))
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(say_nothing(), method="GET", times=None)
    status, answer, _ = await gateway.call("GET", f"/v1/threads/{thread}")
    assert (status, answer["error"]["code"]) == (504, "provider_timeout")
    assert "took longer than 0.15 s in all" in answer["error"]["message"]
    assert len(attempts(events)) == 1


# ---- what never is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*SILENT, *SPOKEN, "409", "nothing"])
async def test_a_write_that_may_have_arrived_is_made_once_even_by_the_sdk(
    fault: str, gateway: Running, vendor: Vendor, events: Events
) -> None:
    """The SDK repeats 408, 409, 429 and 5xx of its own accord; a header of ours stops it."""
    conflict, nothing = faults.status(409, applied=True), (faults.garbage(b""), 502, "provider_broken_answer")
    spoken, silent = SPOKEN | {"409": (conflict, 409)}, SILENT | {"nothing": nothing}
    act, expected = silent[fault][:2] if fault in silent else spoken[fault]
    vendor.simulator.faults.add(act, method="POST", times=None)
    async with gateway.sdk(max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.beta.threads.create()
    assert raised.value.status_code == (504 if fault in silent else expected)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.code == ("outcome_unknown" if fault in silent else None)
    assert ("Simulated" in raised.value.message) is (fault in spoken)
    assert vendor.simulator.created == {"thread": 1}
    assert len(vendor.simulator.journal) == len(attempts(events)) == 1


@pytest.mark.parametrize("fault", ["cut before answer", "too slow", "HTML"])
async def test_a_streamed_run_that_may_have_begun_is_begun_once(
    fault: str, gateway: Running, vendor: Vendor, events: Events
) -> None:
    async with gateway.sdk(max_retries=2) as client:
        assistant = await client.beta.assistants.create(model="m", instructions="x")
        vendor.simulator.faults.add(SILENT[fault][0], path="/runs$", times=None)
        with pytest.raises(openai.APIStatusError) as raised:
            async with client.beta.threads.create_and_run_stream(assistant_id=assistant.id) as stream:
                await stream.until_done()
    assert (raised.value.status_code, raised.value.code) == (504, "outcome_unknown")
    assert vendor.simulator.created["run"] == 1
    assert len(attempts(events)) == 1


async def test_an_error_of_ours_before_anything_was_sent_may_be_repeated(
    gateway: Running, vendor: Vendor, events: Events, pauses: Pauses
) -> None:
    await vendor.simulator.refuse()
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers
    assert [outcome for _, outcome in attempts(events)] == ["provider_unreachable"] * 3
    assert len(pauses) == 2


async def test_a_write_goes_out_when_a_provider_that_refused_is_back(
    gateway: Running, vendor: Vendor, events: Events, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    await vendor.simulator.refuse()
    monkeypatch.setattr(pauses, "meanwhile", vendor.simulator.allow)
    assert (await gateway.call("POST", "/v1/threads", {"metadata": {"a": "b"}}))[1]["metadata"] == {"a": "b"}
    assert [outcome for _, outcome in attempts(events)] == ["provider_unreachable", 200]
    assert vendor.simulator.created == {"thread": 1}


async def test_a_name_that_nobody_knows_is_unreachable(start_gateway: StartGateway, vendor: Vendor) -> None:
    gateway = await start_gateway(vendor, change=edit(providers__openai__base_url="http://nobody.invalid/v1"))
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"]) == (502, "provider_unreachable")
    assert "x-should-retry" not in headers


async def test_a_connection_that_does_not_come_about_carried_nothing(
    start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    """A write is tried again, and callers may repeat it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        provider = {"base_url": f"http://127.0.0.1:{address[1]}", "timeouts": {"connect_s": 0.1}, "max_attempts": 2}
        gateway = await start_gateway(vendor, change=edit(providers__openai=provider))
        status, answer, headers = await gateway.call("POST", "/v1/threads", {})
        for each in waiting:
            each.close()
    assert (status, answer["error"]["code"]) == (504, "provider_timeout")
    assert "could not be connected to within 0.1 s" in answer["error"]["message"]
    assert "x-should-retry" not in headers
    assert [outcome for _, outcome in attempts(events)] == ["provider_timeout"] * 2


async def test_an_answer_that_is_too_large_is_not_taken_whole(
    start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    gateway = await start_gateway(vendor, change=edit(limits__answer_bytes=1000))
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.garbage(b'{"a":"' + b"x" * 1000 + b'"}', "application/json"), times=None)
    status, answer, _ = await gateway.call("GET", f"/v1/threads/{thread}")
    assert (status, answer["error"]["code"]) == (502, "provider_broken_answer")
    assert "limits.answer_bytes" in answer["error"]["message"]


# ---- keys ------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_of_the_account_is_passed_on(gateway: Running, vendor: Vendor, events: Events) -> None:
    """Another key of the same account would only add load."""
    limited = faults.status(
        429, headers={"retry-after": "3", "retry-after-ms": "2500", "x-ratelimit-remaining-requests": "0"}
    )
    vendor.simulator.faults.add(limited)
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["message"]) == (429, "Simulated 429.")
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2500")
    assert not {"x-ratelimit-remaining-requests", "x-should-retry"} & set(headers)
    assert attempts(events) == [("one", 429)]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_rate_limit_of_a_key_goes_to_the_next_key_at_once(
    method: str, start_vendor: StartVendor, start_gateway: StartGateway, events: Events, pauses: Pauses
) -> None:
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.status(429, headers={"retry-after": "3"}), times=1)
    assert (await gateway.call(method, f"/v1/threads/{thread}"))[0] == 200
    assert attempts(events) == [("two", 429), ("one", 200)]
    vendor.simulator.faults.add(faults.status(429, headers={"retry-after": "4"}), times=None)
    status, _, headers = await gateway.call(method, f"/v1/threads/{thread}")
    assert (status, headers["retry-after"]) == (429, "4")
    assert attempts(events) == [("one", 429)], "the other rests"
    status, answer, headers = await gateway.call(method, f"/v1/threads/{thread}")
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "rate_limit_exceeded", "3")
    assert attempts(events) == []
    assert pauses == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("fault", KEY_FAULTS)
async def test_a_key_that_is_refused_gives_way_to_the_next_of_its_account(
    method: str, fault: str, gateway: Running, vendor: Vendor, events: Events, pauses: Pauses
) -> None:
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(KEY_FAULTS[fault], where=lambda received: received.key == vendor.keys[1])
    assert (await gateway.call(method, f"/v1/threads/{thread}"))[0] == 200
    refused, accepted = vendor.simulator.journal[1:]
    assert (refused.key, accepted.key) == (vendor.keys[1], vendor.keys[0])
    assert refused.body == accepted.body
    assert attempts(events) == [("two", int(fault) if fault.isdigit() else refusal(fault)), ("one", 200)]
    assert pauses == []


def refusal(fault: str) -> int:
    return 401 if fault.startswith("401") else 429


@pytest.mark.parametrize("fault", KEY_FAULTS)
async def test_when_all_keys_are_refused_no_word_of_the_vendor_gets_out(
    fault: str, gateway: Running, vendor: Vendor, events: Events
) -> None:
    vendor.simulator.faults.add(KEY_FAULTS[fault], times=None)
    async with gateway.sdk(max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.beta.threads.create()
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_credentials_exhausted")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.message == "Error code: 502 - provider 'openai' accepts none of the keys of account 'acme'"
    assert [received.key for received in vendor.simulator.journal] == vendor.keys[:2]
    assert len(attempts(events)) == 2


@pytest.mark.parametrize("limited", ["one", "two"])
async def test_one_key_refused_and_the_other_too_fast_is_a_matter_of_waiting(
    limited: str, start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> None:
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    too_fast = vendor.keys[0] if limited == "one" else vendor.keys[1]
    vendor.simulator.faults.add(
        faults.status(429, headers={"retry-after": "4"}), where=lambda received: received.key == too_fast
    )
    vendor.simulator.faults.add(KEY_FAULTS["401"])
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["message"], headers["retry-after"]) == (429, "Simulated 429.", "4")
    assert len(attempts(events)) == 2


async def test_a_write_that_may_be_done_is_not_told_as_a_refused_one(
    start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> None:
    """What an earlier key was told says nothing of what became of the last attempt."""
    vendor = await start_vendor("aimlapi")
    gateway = await start_gateway(vendor)
    vendor.simulator.faults.add(faults.status(429))
    vendor.simulator.faults.add(faults.cut_before_answer())
    status, answer, headers = await gateway.call("POST", "/v1/threads", {})
    assert (status, answer["error"]["code"], headers["x-should-retry"]) == (504, "outcome_unknown", "false")
    assert [outcome for _, outcome in attempts(events)] == [429, "provider_unreachable"]


@pytest.mark.parametrize("code", [400, 403, 418, 422])
async def test_what_is_about_the_request_is_final(code: int, gateway: Running, vendor: Vendor, events: Events) -> None:
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.status(code))
    status, answer, headers = await gateway.call("GET", f"/v1/threads/{thread}")
    assert (status, answer["error"]["message"]) == (code, f"Simulated {code}.")
    assert "x-should-retry" not in headers
    assert len(attempts(events)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_is_not_followed(method: str, gateway: Running, vendor: Vendor, events: Events) -> None:
    """It would carry a key to another place."""
    thread = await new_thread(gateway)
    vendor.simulator.faults.add(faults.status(307, headers={"location": vendor.simulator.url + "/threads"}))
    status, _, headers = await gateway.call(method, f"/v1/threads/{thread}")
    assert status == 502
    assert "location" not in headers
    assert len(attempts(events)) == 1


# ---- the connection under it -----------------------------------------------------------------------------------


async def test_a_provider_gets_a_deletion_exactly_as_often_as_attempts_are_recorded(
    gateway: Running, vendor: Vendor, events: Events
) -> None:
    """The HTTP library repeats a deletion by itself on a kept connection that turns out to be closed, unless it is
    told not to."""
    thread = await new_thread(gateway)
    connection = vendor.simulator.faults.add(faults.cut_before_work(), method="DELETE", times=None)
    await gateway.call("DELETE", f"/v1/threads/{thread}")
    assert len(connection.hits) == len(attempts(events)) == 3


async def test_requests_share_a_connection_and_a_broken_one_is_left(
    start_gateway: StartGateway, vendor: Vendor, events: Events
) -> None:
    thread = b'{"id":"thread_1","object":"thread"}'
    answered = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"

    async def answer_three(wire: Wire) -> None:
        for _ in range(3):
            await wire.request()
            await wire.send(answered % (len(thread), thread))
        await wire.request()
        await wire.send(answered % (len(thread) + 1, thread))

    async with Provider(answer_three) as provider:
        gateway = await start_gateway(vendor, change=edit(providers__openai__base_url=provider.url))
        statuses = [(await gateway.call("POST", "/v1/threads", {}))[0] for _ in range(5)]
        assert statuses == [200, 200, 200, 504, 200]
        assert provider.connections == 2
