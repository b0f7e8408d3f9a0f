"""Secrets planted in every place where somebody can put one, at a gateway that runs, and a search through every byte of
its trail and of its log.

Three kinds: `MARKED` stand where nothing is ever kept as it is (headers, queries, paths, metadata, uploads, whatever a
provider says of itself), `FORMED` are secrets whose form is known, wherever they stand, `SAID` is plain text, which may
stand in bodies that the policy keeps and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.auditing.conftest import audited, every_byte, written
from tests.conformance.conftest import STREAMING, WAITING, Call, Heard, compose, examples_of, hear, stage
from tests.conftest import SIGNING_KEY, TENANT_KEYS, Dial, Events, Running, StartGateway, Vendor, edit, eventually
from tests.simulators import faults
from tests.wire import chunked, request

MAIL, CARD, KEY = "canary@example.com", "4012 8888 8888 1881", "sk-canary-said-0123456789"
TOKEN = "eyJhbGciOiJub25lIn0.Y2FuYXJ5NQ.c2ln"
FORMED = (MAIL, CARD, KEY, TOKEN)
SAID = "canary-in-plain-words"
TEXT = f"{SAID}: write to {MAIL}, pay with {CARD}, sign with {KEY} (Bearer {TOKEN})."

HEADERS = {
    name: f"canary-{name.lower()}"
    for name in (
        *("Cookie", "X-Canary", "X-Forwarded-For", "User-Agent", "Referer", "OpenAI-Organization", "OpenAI-Project"),
        *("X-Stainless-Lang", "Idempotency-Key", "Proxy-Authorization"),
    )
}
CLIENT_ID = "sk-canary-client-request-id"
QUERY, PATH, BETA, PROVIDER, WRONG_KEY = (
    "canary-query",
    "canary-path",
    "canary-beta=v1",
    "canary-provider",
    "canary-key",
)
REPEATED = (QUERY, PATH, BETA, PROVIDER)
"""What an error says again stands in the log too, for whoever looks why, and in answers that are kept whole."""
META, FILE, FILE_NAME = "canary-meta", b"canary-in-an-upload", "canary-file-name"
VENDOR_HEADERS = {"x-canary": "canary-vendor-header", "set-cookie": "canary-vendor-cookie=1"}
VENDOR_WORDS = "canary-vendor-words"
MARKED = (
    *HEADERS.values(),
    *(CLIENT_ID, QUERY, PATH, BETA, PROVIDER, WRONG_KEY, META, FILE.decode()),
    *VENDOR_HEADERS.values(),
)
POLICIES: dict[str, list[dict[str, str]]] = {
    "metadata": [],
    "request": [{"level": "request"}],
    "full": [{"level": "full"}],
    "full, once the status is known": [{"status": "418", "level": "metadata"}, {"level": "full"}],
}


def planted(call: Call) -> Call:
    """A call with canaries wherever its body has room for one, and in its query."""
    body = _planted(call.body)
    if isinstance(body, dict):
        body = {"instructions": TEXT, "x_new": {KEY: {"metadata": {"k": META, MAIL: [META]}}}, **body}
    return replace(call, body=body, path=call.path + ("&" if "?" in call.path else "?") + f"x={QUERY}")


_TEXTS = {"hello": TEXT, "3": TEXT, "words": TEXT, "store": TEXT, "renamed": TEXT}
"""What the examples say, and what is said here in its place."""


def _planted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: {"k": META} if key == "metadata" else _planted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_planted, value))
    return _TEXTS.get(value, value) if isinstance(value, str) else value


class Session:
    """All that one tenant can do, and all that can go wrong with it."""

    def __init__(self, gateway: Running, vendor: Vendor, dial: Dial) -> None:
        self.gateway = gateway
        self.vendor = vendor
        self.dial = dial
        self._numbers = count()

    async def hear(self, call: Call) -> Heard:
        given = {**HEADERS, "X-Request-Id": CLIENT_ID}
        given["Idempotency-Key"] += f" {next(self._numbers)}"
        return await hear(self.gateway, planted(call), headers=given)

    async def everything_that_works(self) -> None:
        for waiting in (False, True):
            ids = await stage(self.gateway, vendor=self.vendor, say="call add" if waiting else "hello")
            for name in examples_of(self.vendor):
                if (name in WAITING) != waiting or name in (
                    "cancel_run",
                    "create_assistant_file",
                    "delete_assistant_file",
                ):
                    continue
                for streams in (True, False) if name in STREAMING and name != "submit_tool_outputs" else (waiting,):
                    heard = await self.hear(compose(name, ids, vendor=self.vendor, stream=streams))
                    assert heard.status in (200, 404), (name, heard)
        await self.upload()

    async def upload(self) -> None:
        form = aiohttp.FormData({"purpose": "assistants"})
        form.add_field("file", FILE * 10, filename=f"{FILE_NAME} {MAIL}.txt", content_type="text/plain")
        status, made, _ = await self.gateway.call("POST", "/v1/files", data=form, headers=HEADERS)
        assert status == 200, made
        assert (await self.gateway.call("GET", f"/v1/files/{made['id']}/content"))[0] == 200

    async def everything_that_is_refused(self) -> None:
        own, call = f"/v1/threads?x={QUERY}", self.gateway.call
        wrong = {**HEADERS, "X-Request-Id": CLIENT_ID}
        refused = [
            await call("GET", f"/v1/{PATH}/{PATH}?{QUERY}", headers=wrong),
            await call("GET", f"/v1/threads/{PATH}?after={QUERY}", headers=wrong),
            await call("PUT", f"/v1/threads/{PATH}", headers=wrong),
            await call("POST", own, {}, headers={**wrong, "Authorization": f"Bearer {WRONG_KEY}"}),
            await call("POST", own, {}, headers={**wrong, "Authorization": "", "api-key": WRONG_KEY}),
            await call("POST", own, {}, headers={**wrong, "Authorization": f"{WRONG_KEY} {WRONG_KEY}"}),
            await call("POST", own, {}, headers={**wrong, "x-gateway-provider": PROVIDER}),
            await call("POST", own, {}, headers={**wrong, "OpenAI-Beta": f"assistants={BETA}"}),
            await call("POST", own, {"messages": TEXT}, headers=wrong),
            await call("POST", own, {"messages": [{"role": TEXT, "content": TEXT}]}, headers=wrong),
            await call("GET", f"/v1/assistants?limit={QUERY}&order={QUERY}&after={QUERY}", headers=wrong),
            await call("POST", own, headers={**wrong, "Content-Type": f"text/{PATH}"}, data=TEXT),
            await call("POST", own, headers={**wrong, "Content-Type": "application/json"}, data=f'{{"a": {TEXT}'),
            await call("POST", "/v1/assistants", {"model": KEY, "name": {"b": TEXT}}, headers=wrong),
            await call(
                "POST",
                own,
                {"tool_resources": {"file_search": {"vector_store_ids": [f"{KEY} {MAIL} {CARD}"]}}},
                headers=wrong,
            ),
            await call("POST", "/v1/threads/runs", {"assistant_id": f"asst_{KEY}"}, headers=wrong),
        ]
        assert [status for status, _, _ in refused if status < 400 or status >= 500] == []

    async def what_is_no_http(self) -> None:
        for asking in (
            f"GET /{PATH} {SAID}\r\nX-Canary: {KEY}\r\n\r\n".encode(),
            request("POST", "/v1/threads", b"", "Transfer-Encoding: chunked") + chunked(TEXT.encode()) + TEXT.encode(),
            request("GET", f"/{PATH}" + "x" * 80_000),
            request("GET", f"/v1/{PATH}", b"", f"X-Canary : {KEY}"),
        ):
            wire = await self.dial(self.gateway)
            with suppress(ConnectionError):
                await wire.send(asking)
            await wire.rest()
            wire.close()

    async def everything_a_provider_may_do(self) -> None:
        """Each on a request that is read, one that writes, and one that streams."""
        words = {"message": f"{VENDOR_WORDS} {TEXT}", "type": VENDOR_WORDS, "param": VENDOR_WORDS, "code": KEY}
        ids = await stage(self.gateway, vendor=self.vendor)
        calls = [compose(name, ids, stream=name == "create_thread_and_run") for name in FAILING]
        for act in (
            *(
                faults.status(status, {"error": words}, headers=VENDOR_HEADERS)
                for status in (400, 404, 409, 422, 500, 503)
            ),
            faults.status(500, f"<html>{VENDOR_WORDS} {TEXT}".encode(), content_type=f"text/{VENDOR_WORDS}"),
            faults.garbage(f"<html>{VENDOR_WORDS} {TEXT}".encode()),
            faults.garbage(f'{{"id": "{KEY}", "object": "{VENDOR_WORDS}"}}'.encode(), "application/json"),
            faults.cut_before_answer(),
            faults.cut(40),
            faults.cut(900, reset=True),
            faults.garbage([f"event: error\ndata: {orjson.dumps(words).decode()}\n\n".encode()], "text/event-stream"),
        ):
            for call in calls:
                self.vendor.simulator.faults.clear()
                self.vendor.simulator.faults.add(act, times=None)
                with suppress(aiohttp.ClientError):
                    await self.hear(call)
        self.vendor.simulator.faults.clear()

    async def what_passes_through(self) -> None:
        said = {"id": "x", "choices": [{"index": 0, "delta": {"content": TEXT}, "message": {"content": TEXT}}]}
        event = b"data: " + orjson.dumps(said) + b"\n\n"
        for act in (
            faults.garbage(orjson.dumps(said), "application/json", applied=False),
            faults.garbage([event, event, b"data: [DONE]\n\n"], "text/event-stream", applied=False),
            faults.garbage(FILE, "audio/mpeg", applied=False),
            faults.status(400, {"error": {"message": TEXT, "code": VENDOR_WORDS}}),
        ):
            self.vendor.simulator.faults.add(act)
            body = {"model": KEY, "stream": True, "messages": [{"role": "user", "content": TEXT}]}
            heard = await self.hear(Call("POST", "/v1/chat/completions", body | {"metadata": {"k": META}}))
            assert heard.status in (200, 400)

    async def keys_that_are_refused(self) -> None:
        """At the end: after that the account is out of keys."""
        words = {"error": {"message": f"Incorrect API key provided: {self.vendor.keys[0]}. {TEXT}", "code": SAID}}
        for status in (429, 403, 401):
            self.vendor.simulator.faults.add(faults.status(status, words, headers=VENDOR_HEADERS), times=None)
            await self.hear(Call("POST", "/v1/threads", {}))
            self.vendor.simulator.faults.clear()


FAILING = ("get_assistant", "create_thread", "create_thread_and_run")


def found(canaries: Iterable[str], *places: bytes) -> dict[str, bytes]:
    """Canaries that stand somewhere, as text or in JSON or in a URL, and where."""
    seen = {}
    for canary in canaries:
        for form in {canary.encode(), orjson.dumps(canary)[1:-1]}:
            for place in places:
                if (at := place.find(form)) >= 0:
                    seen[canary] = place[max(0, at - 200) : at + 100]
    return seen


@pytest.mark.parametrize("policy", POLICIES)
async def test_no_byte_of_trail_or_log_tells_a_secret(
    policy: str, start_gateway: StartGateway, vendor: Vendor, folder: Path, dial: Dial, events: Events
) -> None:
    settings = {"policy": POLICIES[policy], "rotate_bytes": 200_000}
    passing = edit(providers__openai__passthrough=["chat/completions"], cache={"ttl_s": 30})

    def change(values: dict[str, Any]) -> None:
        passing(values)
        audited(folder, **settings)(values)

    gateway = await start_gateway(vendor, change=change)
    session = Session(gateway, vendor, dial)
    await session.everything_that_works()
    await session.everything_that_is_refused()
    await session.what_is_no_http()
    await session.what_passes_through()
    await session.everything_a_provider_may_do()
    await session.keys_that_are_refused()
    await eventually(lambda: len(written(folder, "request.finished")) >= len(events.named("request.done")))
    await gateway.app.stop(grace_s=1)

    secrets = [*vendor.keys, *TENANT_KEYS.values(), SIGNING_KEY, *MARKED, *FORMED]
    kept = list(every_byte(folder))
    if policy == "metadata":
        secrets += [SAID, VENDOR_WORDS, FILE_NAME]
    assert found([each for each in secrets if each not in REPEATED or not policy.startswith("full")], *kept) == {}
    for_operators = [each for each in [*secrets, SAID, FILE_NAME] if each not in (*REPEATED, VENDOR_WORDS)]
    assert found(for_operators, *map(orjson.dumps, events)) == {}
    if policy.startswith("full"):
        assert found([SAID], *kept)  # what was said stands where it was asked for
    records = [each for each in written(folder) if each["kind"].startswith("request.")]
    assert len(records) > 150
