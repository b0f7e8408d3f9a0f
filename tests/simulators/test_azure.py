"""Azure OpenAI: the SDK made for it, and the ways in which it says no."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI

from tests.sdk import http_client
from tests.simulators.azure import throttle
from tests.simulators.base import Simulator
from tests.simulators.conftest import API_VERSIONS, ONE, OTHER, TWO, Caller, StartSimulator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
async def vendor(start_simulator: StartSimulator) -> Simulator:
    return await start_simulator("azure")


@pytest.fixture
async def client(vendor: Simulator) -> AsyncIterator[AsyncAzureOpenAI]:
    endpoint, version = vendor.url.removesuffix("/openai"), API_VERSIONS["azure"]["api-version"]
    async with AsyncAzureOpenAI(
        azure_endpoint=endpoint, api_key=ONE, api_version=version, max_retries=0, http_client=http_client()
    ) as opened:
        yield opened


async def test_sdk_runs_an_assistant_that_plots(client: AsyncAzureOpenAI, vendor: Simulator) -> None:
    notes = await client.files.create(file=b"x,y", purpose="assistants")
    assert notes.id.startswith("assistant-")
    assistant = await client.beta.assistants.create(
        model="my-deployment",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [notes.id]}},
    )
    thread: Any = {"messages": [{"role": "user", "content": "plot"}]}
    async with client.beta.threads.create_and_run_stream(assistant_id=assistant.id, thread=thread) as stream:
        run = await stream.get_final_run()
    assert (run.status, run.expires_at) == ("completed", None)
    messages = await client.beta.threads.messages.list(run.thread_id)
    image = messages.data[0].content[0].image_file.file_id  # type: ignore[union-attr]
    assert image.startswith("assistant-")
    assert (await client.files.content(image)).content.startswith(b"\x89PNG")
    assert {received.key for received in vendor.journal} == {ONE}
    assert all(received.query.endswith("api-version=2024-05-01-preview") for received in vendor.journal)


async def test_sdk_streams_and_keeps_vector_stores(client: AsyncAzureOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="my-deployment", instructions="x")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Grüße"}])
    async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        assert "".join([delta async for delta in stream.text_deltas]) == "You said: Grüße"
    store = await client.vector_stores.create(name="s")
    assert [each.id async for each in client.vector_stores.list()] == [store.id]


async def test_the_key_is_taken_from_its_own_header_only(call: Caller) -> None:
    bearer = {"api-key": "", "Authorization": f"Bearer {ONE}"}
    for headers, key in ((bearer, ONE), ({}, "unknown"), ({"api-key": ""}, ONE)):
        status, error, _ = await call("POST", "/threads", {}, headers=headers, key=key)
        assert (status, error["error"].keys(), error["error"]["code"]) == (401, {"code", "message"}, "401")
        assert error["error"]["message"].startswith("Access denied due to invalid subscription key")
    thread = (await call("POST", "/threads", {}))[1]["id"]
    assert (await call("GET", f"/threads/{thread}", key=TWO))[0] == 200
    assert (await call("GET", f"/threads/{thread}", key=OTHER))[0] == 404


@pytest.mark.parametrize("params", [{}, {"api-version": ""}, {"api-version": "latest"}])
async def test_without_a_version_nothing_is_there(call: Caller, params: dict[str, str]) -> None:
    nothing = {"error": {"code": "404", "message": "Resource not found"}}
    for method, path in (("POST", "/threads"), ("GET", "/files"), ("GET", "/assistants")):
        assert (await call(method, path, params=params))[:2] == (404, nothing)


async def test_errors_have_a_number_or_a_name_as_code(call: Caller, client: AsyncAzureOpenAI) -> None:
    status, error, headers = await call("GET", "/threads/thread_x")
    assert (status, error) == (404, {"error": {"code": "404", "message": "No thread found with id 'thread_x'."}})
    assert {"apim-request-id", "x-ms-region", "azureml-model-session"} <= {name.lower() for name in headers}
    with pytest.raises(openai.NotFoundError) as refused:
        await client.beta.assistants.create(model="a-missing-deployment")
    assert refused.value.code == "DeploymentNotFound"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.beta.assistants.create(model="m", temperature=3)
    assert bad.value.code == "decimal_above_max_value"


async def test_too_much_is_answered_with_when_to_come_back(vendor: Simulator, client: AsyncAzureOpenAI) -> None:
    vendor.faults.add(throttle(after_s=7))
    with pytest.raises(openai.RateLimitError) as refused:
        await client.beta.threads.create()
    assert (refused.value.response.headers["retry-after"], refused.value.code) == ("7", "429")
    assert vendor.created["thread"] == 0
