"""The echo model on a socket: the official SDK talks to it, and strangers do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from gateway.demo.echo_server import EchoServer
from tests.sdk import http_client


async def at_once() -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    server = EchoServer(keys=["demo-key"], pause=at_once)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: EchoServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key="demo-key", base_url=server.url, max_retries=0, http_client=http_client()) as client:
        yield client


async def test_the_sdk_hears_words_calls_and_usage(client: AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": 'call add {"a": 1}'}]
    tools: list[Any] = [{"type": "function", "function": {"name": "add"}}]
    async with client.chat.completions.stream(model="m", messages=messages, tools=tools) as stream:
        first = await stream.get_final_completion()
    [call] = first.choices[0].message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("add", '{"a": 1}')
    messages += [first.choices[0].message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    options: Any = {"include_usage": True}
    async with client.chat.completions.stream(model="m", messages=messages, stream_options=options) as stream:
        last = await stream.get_final_completion()
    assert last.choices[0].message.content == "The tools answered: 3"
    assert last.usage is not None
    assert last.usage.completion_tokens == 4
    assert [model.id async for model in client.models.list()] == ["echo"]


async def test_an_end_that_was_asked_for_reaches_the_sdk(client: AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "fail"}]
    stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
    with pytest.raises(openai.APIError, match="asked to fail"):
        async for _ in stream:
            pass


async def test_wrong_keys_and_bodies_are_refused(server: EchoServer, client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").chat.completions.create(model="m", messages=[])
    with pytest.raises(openai.BadRequestError, match="only streams"):
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer demo-key"}) as session,
        session.post(f"{server.url}/chat/completions", data=b"{") as response,
    ):
        assert (response.status, (await response.json())["error"]["type"]) == (400, "invalid_request_error")
    assert "demo-key" not in repr(server)
