"""Many callers at once, each of whom must only ever hear of what is its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.ids import IdSigner
from tests.conformance.conftest import TOOLS, Call, hear, ok, remember
from tests.conftest import SIGNING_KEY, TENANT_KEYS, Events, Running, StartGateway, StartVendor

_SIGNER = IdSigner([SIGNING_KEY.encode()])
_TENANTS = list(TENANT_KEYS)
KINDS = {"assistant": "asst_", "thread": "thread_", "message": "msg_", "run": "run_", "step": "step_", "file": "file-"}


def ids_in(document: Any) -> list[str]:
    """Everything in an answer that is an id of some kind, wherever it stands; tool calls' ids are the model's."""
    if isinstance(document, dict):
        return [each for name, inner in document.items() if name != "metadata" for each in ids_in(inner)]
    if isinstance(document, list):
        return [each for inner in document for each in ids_in(inner)]
    is_id = isinstance(document, str) and document.startswith(tuple(KINDS.values())) and " " not in document
    return [document] if is_id else []


class Conversation:
    """One caller with a thread of its own, which it reads, writes, runs and lists in one go. Every answer has to speak
    of this thread, in this tenant's ids, and say the caller's own words."""

    def __init__(self, gateway: Running, number: int, providers: list[str]) -> None:
        self._gateway = gateway
        self._tenant = _TENANTS[number % len(_TENANTS)]
        self._base = f"/providers/{providers[number // len(_TENANTS) % len(providers)]}/v1"
        self._word = f"word-{number}"
        self._mine: set[str] = set()

    async def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await ok(self._gateway, method, self._base + path, body, tenant=self._tenant, **more)
        self._check(answer)
        return answer

    def _check(self, answer: Any) -> None:
        for each in ids_in(answer):
            kind = next(kind for kind, prefix in KINDS.items() if each.startswith(prefix))
            assert _SIGNER.verify(each, kind=kind, tenant=self._tenant), (self._word, each)
            self._mine.add(each)
        words = set(json.dumps(answer).replace('"', " ").replace(".", " ").split())
        assert {word for word in words if word.startswith("word-")} <= {self._word}

    async def __call__(self) -> set[str]:
        """Answers every id that was heard."""
        metadata = {"metadata": {"who": self._word}}
        assistant = (await self._ask("POST", "/assistants", {"model": "m", "tools": TOOLS, **metadata}))["id"]
        thread = await self._ask("POST", "/threads", metadata)
        path = f"/threads/{thread['id']}"
        texts = [f"{self._word} {number}" for number in range(4)]
        for text in texts:
            await self._ask("POST", f"{path}/messages", {"role": "user", "content": text})
        together = (self._read(path, thread, texts), self._stream(path, assistant), self._page(path, texts))
        await asyncio.gather(*together)
        run = await self._ask("POST", f"{path}/runs", {"assistant_id": assistant, **metadata})
        while run["status"] != "completed":
            run = await self._ask("GET", f"{path}/runs/{run['id']}")
            assert (run["thread_id"], run["assistant_id"]) == (thread["id"], assistant)
        steps = await self._ask("GET", f"{path}/runs/{run['id']}/steps")
        assert {step["run_id"] for step in steps["data"]} == {run["id"]}
        assert len((await self._ask("GET", f"{path}/runs"))["data"]) == 2
        refused = await hear(self._gateway, Call("GET", f"{path}x"), tenant=self._tenant)
        words = f"No thread found with id '{thread['id']}x'."
        assert (refused.status, refused.json["error"]["message"]) == (404, words)
        assert (await self._ask("DELETE", path))["id"] == thread["id"]
        return self._mine

    async def _read(self, path: str, thread: Any, texts: list[str]) -> None:
        for _ in texts:
            again = await self._ask("GET", path)
            assert (again["id"], again["metadata"]) == (thread["id"], thread["metadata"])

    async def _page(self, path: str, texts: list[str]) -> None:
        seen: list[str] = []
        after = ""
        while len(seen) < len(texts):
            page = await self._ask("GET", f"{path}/messages?order=asc&limit=2{after}")
            seen += [item["content"][0]["text"]["value"] for item in page["data"]]
            after = f"&after={page['last_id']}"
        assert seen[: len(texts)] == texts

    async def _stream(self, path: str, assistant: str) -> None:
        body = {"assistant_id": assistant, "stream": True}
        heard = await hear(self._gateway, Call("POST", f"{self._base}{path}/runs", body), tenant=self._tenant)
        events = [json.loads(line[6:]) for line in heard.body.split(b"\n") if line.startswith(b"data: {")]
        self._check(events)
        spoken = [event["delta"]["content"][0]["text"]["value"] for event in events if "delta" in event]
        assert "".join(spoken) == f"You said: {self._word} 3"
        assert events[-1]["status"] == "completed"


@pytest.mark.parametrize("callers", [24, pytest.param(200, marks=pytest.mark.long)])
async def test_every_caller_hears_only_of_its_own(
    start_vendor: StartVendor, start_gateway: StartGateway, events: Events, callers: int
) -> None:
    """Three tenants, two of them on one account, four providers of both versions of the protocol, all at once."""
    vendors = [await start_vendor(name) for name in ("openai", "aimlapi", "openai_v1", "apilaplas")]
    memories = [remember(vendor, account) for vendor in vendors for account in ("acme", "bolt")]
    gateway = await start_gateway(*vendors)
    names = [vendor.name for vendor in vendors]
    heard = await asyncio.gather(*(Conversation(gateway, number, names)() for number in range(callers)))
    assert sum(map(len, heard)) == len(set().union(*heard)), "two callers heard of one object"
    issued = {upstream for memory in memories for upstream, kind in memory if kind in KINDS}
    assert {each[:-24] for each in set().union(*heard)} <= issued
    done = events.named("request.done")
    assert {line["status"] for line in done} == {200, 404}
    assert sum(line["status"] == 404 for line in done) == callers
    assert len({line["request_id"] for line in done}) == len(done)


async def test_lists_stay_whole_while_objects_come_and_go(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """On the shared account: what was there before and stays is on every list, in its order, once."""
    vendor = await start_vendor("openai")
    gateway = await start_gateway(vendor)

    async def create(tenant: str) -> str:
        return str((await ok(gateway, "POST", "/v1/assistants", {"model": "m"}, tenant=tenant))["id"])

    stays = [await create("alice") for _ in range(5)]

    async def come_and_go(tenant: str) -> None:
        for _ in range(5):
            await ok(gateway, "DELETE", f"/v1/assistants/{await create(tenant)}", tenant=tenant)

    async def read() -> None:
        for _ in range(5):
            listed = [each["id"] for each in (await ok(gateway, "GET", "/v1/assistants?order=asc"))["data"]]
            assert [each for each in listed if each in stays] == stays
            assert len(set(listed)) == len(listed)

    await asyncio.gather(*(come_and_go(tenant) for tenant in ("alice", "alice", "bob")), read(), read())
    assert [each["id"] for each in (await ok(gateway, "GET", "/v1/assistants?order=asc"))["data"]] == stays
    assert (await ok(gateway, "GET", "/v1/assistants", tenant="bob"))["data"] == []
