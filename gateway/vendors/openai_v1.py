"""OpenAI in version 1 of the protocol (`OpenAI-Beta: assistants=v1`), and servers that stayed with it: the OpenAPI
description of 2024-04-16, read 2026-11-21. Nothing here was tried against a live server; OpenAI's own is gone.

Callers of v2 are translated (`gateway/protocols/v1.py`), those of v1 pass as they are. What v1 never had, and which is
therefore refused or answered by the provider with 404: deleting a message, vector stores, images by URL, JSON schemas,
`parallel_tool_calls: false`. Not documented, hence as in v2: errors, rate limits and their headers.
"""

from dataclasses import replace

from gateway.vendors import openai


def assistants_v1(others: tuple[str, ...]) -> str:
    """Version 1 is said with every call, and what else the caller asked for."""
    return ",".join(("assistants=v1", *others))


VENDOR = replace(openai.VENDOR, name="openai_v1", base_url=None, protocol="v1", beta_header=assistants_v1)
