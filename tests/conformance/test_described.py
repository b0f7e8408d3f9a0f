"""What providers answer through the gateway is what the OpenAPI document says, in both versions of the protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.operations import BY_NAME
from gateway.sse import EventParser
from tests.conformance.conftest import STREAMING, WAITING, Call, compose, examples_of, hear, stage
from tests.conftest import Running, StartGateway, Vendor
from tests.described import DOCUMENT, OPERATIONS, faults, of_version

BETA = {"v1": "assistants=v1", "v2": "assistants=v2"}
V2_ONLY = frozenset({"tool_resources", "attachments"})
"""What v1 has other words for."""
EVENTS = [option["properties"] for option in DOCUMENT["components"]["schemas"]["StreamEvent"]["anyOf"]]


@pytest.fixture
async def gateway(vendor: Vendor, start_gateway: StartGateway) -> Running:
    return await start_gateway(vendor)


def spoken_in_v1(value: Any) -> Any:
    """A body without what v1 has no words for, its tools by their v1 name and its messages as one text."""
    if isinstance(value, list):
        return [spoken_in_v1(each) for each in value]
    if not isinstance(value, dict):
        return "retrieval" if value == "file_search" else value
    said = {name: spoken_in_v1(inner) for name, inner in value.items() if name not in V2_ONLY}
    if isinstance(parts := said.get("content"), list):
        said["content"] = next(part["text"] for part in parts if part["type"] == "text")
    return said


@pytest.mark.parametrize("version", BETA)
async def test_every_answer_is_as_described(vendor: Vendor, gateway: Running, version: str) -> None:
    ids = await stage(gateway, vendor=vendor)
    for name in examples_of(vendor):
        if BY_NAME[name].only_in not in (None, version):
            continue
        here = await stage(gateway, vendor=vendor, say="call add") if name in WAITING else ids
        call = compose(name, here, vendor=vendor, query_of=["limit", "order", "include[]"])
        if BY_NAME[name].body is not None and BY_NAME[name].only_in is None:
            asked = of_version(OPERATIONS[name].body["application/json"], "v2")
            assert not faults(call.body, asked), name
        if version == "v1":
            call = replace(call, body=spoken_in_v1(call.body))
        heard = await hear(gateway, call, headers={"OpenAI-Beta": BETA[version]})
        assert heard.status == 200, (name, heard)
        if BY_NAME[name].answers != "bytes":
            schema = of_version(OPERATIONS[name].answers["application/json"], version)
            assert not faults(heard.json, schema), (name, heard.json)


@pytest.mark.parametrize("version", BETA)
async def test_every_event_is_as_described(vendor: Vendor, gateway: Running, version: str) -> None:
    ids = await stage(gateway, vendor=vendor, say="call add")
    names = sorted(STREAMING, key=lambda name: name not in WAITING)  # the run that waits comes first, it holds a lock
    calls = [compose(name, ids, vendor=vendor, stream=True) for name in names]
    for say in ("plot", "search", "call add", "fail", "truncate"):
        body = {"assistant_id": ids["assistant"], "thread": {"messages": [{"role": "user", "content": say}]}}
        calls.append(Call("POST", "/v1/threads/runs", body | {"stream": True}))
    for call in calls:
        if version == "v1":
            call = replace(call, body=spoken_in_v1(call.body))
        heard = await hear(gateway, call, headers={"OpenAI-Beta": BETA[version]})
        assert heard.status == 200, heard
        for event in EventParser().feed(heard.body):
            data = "[DONE]" if event.name == "done" else orjson.loads(event.data)
            schema = next(each["data"] for each in EVENTS if not faults(event.name, each["event"]))
            assert not faults(data, of_version(schema, version)), (event.name, data)
