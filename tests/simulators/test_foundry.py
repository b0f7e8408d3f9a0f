"""Azure AI Foundry: the SDK with tokens that `azure-identity` fetches, and how tokens end."""

from collections.abc import AsyncIterator

import openai
import pytest
from azure.identity.aio import ClientSecretCredential
from openai import AsyncOpenAI

from tests.sdk import http_client
from tests.simulators import faults
from tests.simulators.conftest import API_VERSIONS, ONE, OTHER, TWO, Caller, StartSimulator
from tests.simulators.entra import SCOPE, TENANT_ID, client_id_of
from tests.simulators.foundry import Foundry, deny_role

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
async def vendor(start_simulator: StartSimulator) -> Foundry:
    started = await start_simulator("foundry")
    assert isinstance(started, Foundry)
    return started


@pytest.fixture
async def credential(vendor: Foundry) -> AsyncIterator[ClientSecretCredential]:
    authority = {"authority": vendor.entra.url, "disable_instance_discovery": True}
    async with ClientSecretCredential(
        TENANT_ID, client_id_of("acme"), ONE, connection_verify=vendor.entra.ca_path, **authority
    ) as opened:
        yield opened


@pytest.fixture
async def client(vendor: Foundry, credential: ClientSecretCredential) -> AsyncIterator[AsyncOpenAI]:
    async def token() -> str:
        return (await credential.get_token(SCOPE)).token

    version = API_VERSIONS["foundry"]
    async with AsyncOpenAI(
        api_key=token, base_url=vendor.url, default_query=version, max_retries=0, http_client=http_client()
    ) as opened:
        yield opened


async def test_sdk_runs_an_agent_on_one_token(client: AsyncOpenAI, vendor: Foundry) -> None:
    agent = await client.beta.assistants.create(model="my-deployment")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "hi"}])
    run = await client.beta.threads.runs.create(thread.id, assistant_id=agent.id)
    for status in ("in_progress", "completed"):
        assert (await client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)).status == status
    async with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=agent.id) as stream:
        assert "".join([delta async for delta in stream.text_deltas]) == "You said: hi"
    assert (await client.files.create(file=b"x", purpose="assistants")).id.startswith("assistant-")
    assert {received.path.partition("/simulated")[0] for received in vendor.journal} == {"/api/projects"}
    assert {(received.key, received.account) for received in vendor.journal} == {(ONE, "acme")}
    assert len(vendor.entra.journal) == 1


async def test_threads_are_listed(call: Caller) -> None:
    made = [(await call("POST", "/threads", {}))[1]["id"] for _ in range(3)]
    _, page, _ = await call("GET", "/threads?order=asc&limit=2")
    assert ([each["id"] for each in page["data"]], page["last_id"], page["has_more"]) == (made[:2], made[1], True)
    _, page, _ = await call("GET", f"/threads?order=asc&after={made[1]}")
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (made[2:], False)
    _, page, _ = await call("GET", f"/threads?before={made[0]}")
    assert [each["id"] for each in page["data"]] == made[:0:-1]
    assert (await call("GET", "/threads", key=OTHER))[1]["data"] == []
    assert (await call("GET", f"/threads/{made[0]}", key=TWO))[0] == 200


@pytest.mark.parametrize("end", ["expiry", "revocation"])
async def test_a_token_ends_and_the_next_one_works(client: AsyncOpenAI, vendor: Foundry, end: str) -> None:
    await client.beta.threads.create()
    if end == "expiry":
        then = vendor.now() + vendor.entra.expires_in_s
        vendor.now = lambda: then
    else:
        vendor.entra.revoke_all()
    with pytest.raises(openai.AuthenticationError) as refused:
        await client.beta.threads.create()
    assert refused.value.code == "401"
    assert "Access token is missing, invalid" in refused.value.message
    fresh = client.with_options(api_key=vendor.entra.issue(ONE))
    await fresh.beta.threads.create()
    assert vendor.created["thread"] == 2


async def test_only_tokens_are_good(call: Caller) -> None:
    for headers in ({"Authorization": f"Bearer {ONE}"}, {"Authorization": ""}, {"Authorization": "", "api-key": ONE}):
        status, error, _ = await call("POST", "/threads", {}, headers=headers)
        assert (status, error["error"]["code"]) == (401, "401")


async def test_a_missing_role_is_a_401_that_no_other_token_mends(call: Caller, vendor: Foundry) -> None:
    vendor.faults.add(deny_role())
    status, error, _ = await call("POST", "/threads", {})
    assert (status, error["error"]["code"]) == (401, "PermissionDenied")
    assert vendor.created["thread"] == 0


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, "MissingApiVersionParameter"),
        ("v9", "UnsupportedApiVersionValue"),
        ("v1", None),
        ("2025-05-01", None),
        ("2025-05-15-preview", None),
    ],
)
async def test_a_version_is_asked_for(call: Caller, version: str | None, code: str | None) -> None:
    params = {} if version is None else {"api-version": version}
    status, answer, _ = await call("GET", "/threads", params=params)
    assert (status, answer.get("error", {}).get("code")) == (400 if code else 200, code)


async def test_the_vendor_and_its_authority_fail_apart(
    client: AsyncOpenAI, credential: ClientSecretCredential, vendor: Foundry
) -> None:
    await client.beta.threads.create()
    await vendor.entra.refuse()
    await client.beta.threads.create()
    await vendor.entra.allow()
    await vendor.refuse()
    with pytest.raises(openai.APIConnectionError):
        await client.beta.threads.create()
    await credential.get_token(SCOPE, claims="{}")
    await vendor.allow()
    vendor.faults.add(faults.status(503))
    with pytest.raises(openai.InternalServerError, match=r"Simulated 503\."):
        await client.beta.threads.create()
    await client.beta.threads.create()
    assert (vendor.created["thread"], len(vendor.entra.journal)) == (3, 2)
