"""The bundled provider that `make run` starts: whoever tries things out tries wrong ones too."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from gateway.demo import DemoServer

BODIES: list[tuple[str, Any]] = [
    ("/threads", {"messages": [{"role": "user", "content": [{"type": "image_file"}]}]}),
    ("/threads", {"tool_resources": {"file_search": {"vector_stores": [1]}}}),
    ("/vector_stores", {"expires_after": {"days": {}}}),
    ("/assistants", {"model": "m", "tools": [{}]}),
    ("/threads/runs", {"assistant_id": [], "thread": 1}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_body_that_no_rule_foresaw_is_refused(path: str, body: Any, session: aiohttp.ClientSession) -> None:
    server = DemoServer(keys={"demo-key": "main"})
    await server.start("127.0.0.1", 0)
    headers = {"Authorization": "Bearer demo-key"}
    async with session.post(server.url + path, json=body, headers=headers) as response:
        assert (response.status, response.content_type) == (400, "application/json")
        assert await response.json()
    async with session.post(server.url + "/threads", json={}, headers=headers) as response:
        assert response.status in (200, 201)
    await server.stop()
