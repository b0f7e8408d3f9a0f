"""Asking a simulated model as the gateway's engine does, and hearing what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from gateway.engine.models.generation import CallArguments, CallBegun, Delta, Generation, TextDelta
from gateway.engine.models.model_api import ModelApi


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    api: ModelApi,
    generation: Generation,
    headers: Mapping[str, str],
    **more: Any,
) -> list[Delta]:
    """What came of it; `url` is where the vendor's API begins, `headers` present a key."""
    request, reader = api.build(generation), api.read("made_{}".format)
    headers = {"Content-Type": "application/json", **headers, **request.headers}
    async with session.post(url + request.path, data=request.body, headers=headers, **more) as response:
        if response.status != 200:
            return [api.failure(response.status, response.headers, await response.read(), now=0)]
        deltas: list[Delta] = []
        try:
            async for piece in response.content.iter_any():
                deltas += reader.feed(piece)
        except aiohttp.ClientError:
            return deltas + reader.cut("cut")
        return deltas + reader.close()


def text_in(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def calls_in(deltas: list[Delta]) -> list[tuple[str, str]]:
    """Names and arguments."""
    told = {delta.index: "" for delta in deltas if isinstance(delta, CallBegun)}
    for delta in deltas:
        if isinstance(delta, CallArguments):
            told[delta.index] += delta.text
    return [(delta.name, told[delta.index]) for delta in deltas if isinstance(delta, CallBegun)]
