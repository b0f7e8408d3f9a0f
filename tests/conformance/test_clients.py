"""Clients of other kinds than OpenAI's own."""

from __future__ import annotations

import pytest
from openai import AsyncAzureOpenAI

from tests.conformance.conftest import NEWEST
from tests.conftest import Events, StartGateway, Vendor
from tests.sdk import http_client

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.client(name=NEWEST, door="AzureOpenAI")
async def test_azures_client_holds_a_conversation_with_any_vendor(vendor: Vendor, start_gateway: StartGateway) -> None:
    """It calls `/openai/…?api-version=…` with `api-key`; the version it names is not the provider's."""
    gateway = await start_gateway(vendor)
    async with AsyncAzureOpenAI(
        azure_endpoint=gateway.url,
        api_key="alice-key",
        api_version="2024-02-15-preview",
        max_retries=0,
        http_client=http_client(),
    ) as client:
        assistant = await client.beta.assistants.create(model="gpt-4o")
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
        run = await client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=1
        )
        assert run.status == "completed"
        async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
            await stream.until_done()
        messages = await client.beta.threads.messages.list(thread.id, limit=2, order="asc")
        assert [message.role for message in messages.data] == ["user", "assistant"]
    versions = {"azure": "2024-05-01-preview", "foundry": "v1"}
    heard = [received.query for received in vendor.simulator.journal]
    expected = versions.get(vendor.name)
    assert all("2024-02-15-preview" not in query for query in heard)
    assert all((expected is None) == ("api-version" not in query) for query in heard)


@pytest.mark.parametrize("vendor", ["azure", "openai_v1"], indirect=True)
async def test_models_are_renamed_both_ways(vendor: Vendor, start_gateway: StartGateway, events: Events) -> None:
    """A deployment's name stays between gateway and provider; user data that looks like one is left alone."""

    def change(settings: dict[str, dict[str, dict[str, object]]]) -> None:
        settings["providers"][vendor.name]["models"] = {"gpt-4o": "our-deployment", "other": "our-deployment"}

    gateway = await start_gateway(vendor, change=change)
    async with gateway.sdk() as client:
        assistant = await client.beta.assistants.create(model="gpt-4o", metadata={"model": "our-deployment"})
        assert (assistant.model, assistant.metadata) == ("gpt-4o", {"model": "our-deployment"})
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
        async with client.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id, model="gpt-4o"
        ) as stream:
            models = {event.data.model async for event in stream if event.event == "thread.run.completed"}
        assert models == {"gpt-4o"}
        assert [each.model for each in (await client.beta.assistants.list()).data] == ["gpt-4o"]
        plain = await client.beta.assistants.create(model="unlisted")
        assert plain.model == "unlisted"
    assert vendor.simulator.worlds["acme"].assistants.get(assistant.id[:-24])["model"] == "our-deployment"
    lines = [line for line in events.named("request.done") if "model" in line]
    told = {line["operation"]: (line["model"], line["upstream_model"]) for line in lines}
    assert told == {
        "create_run": ("gpt-4o", "our-deployment"),
        "create_assistant": ("unlisted", "unlisted"),
    }
