"""The token endpoint satisfies `azure-identity`, tells its errors as it does, and fails as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.identity.aio import ClientSecretCredential

from tests.simulators import faults
from tests.simulators.base import KEYS
from tests.simulators.conftest import ONE, OTHER
from tests.simulators.entra import METADATA_PATH, SCOPE, TENANT_ID, TOKEN_PATH, Entra, client_id_of

Credential = Callable[..., ClientSecretCredential]


@pytest.fixture
async def entra() -> AsyncIterator[Entra]:
    started = Entra(keys=KEYS)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def credential(entra: Entra) -> AsyncIterator[Credential]:
    """One of an application's secrets, as `azure-identity` uses it; without retries, which would wait."""
    made: list[ClientSecretCredential] = []

    def make(secret: str = ONE, account: str = "acme", **settings: Any) -> ClientSecretCredential:
        settings = {"authority": entra.url, "connection_verify": entra.ca_path, "retry_total": 0, **settings}
        made.append(ClientSecretCredential(TENANT_ID, client_id_of(account), secret, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_a_token_is_fetched_once_and_kept(entra: Entra, credential: Credential) -> None:
    entra.now = lambda: 1_000
    kept = credential()
    tokens = [(await kept.get_token(SCOPE)).token for _ in range(3)]
    assert len(set(tokens)) == 1
    assert entra.secret_of(tokens[0]) == ONE
    [received] = entra.journal
    assert (received.method, received.path, received.key, received.account) == ("POST", TOKEN_PATH, ONE, "acme")
    entra.now = lambda: 1_000 + entra.expires_in_s
    assert entra.secret_of(tokens[0]) is None


async def test_the_next_token_is_as_short_lived_as_it_is_told(entra: Entra, credential: Credential) -> None:
    entra.expires_in_s = 0
    short = credential()
    tokens = {(await short.get_token(SCOPE)).token for _ in range(2)}
    assert (len(tokens), len(entra.journal)) == (2, 2)
    assert {entra.secret_of(token) for token in tokens} == {None}


@pytest.mark.parametrize(
    ("secret", "account", "status", "code"),
    [
        ("wrong", "acme", 401, "(invalid_client) AADSTS7000215"),
        (OTHER, "acme", 401, "(invalid_client) AADSTS7000215"),
        (ONE, "nobody", 400, "(unauthorized_client) AADSTS700016"),
    ],
)
async def test_a_secret_is_good_for_its_application_only(
    credential: Credential, secret: str, account: str, status: int, code: str
) -> None:
    with pytest.raises(ClientAuthenticationError) as refused:
        await credential(secret, account).get_token(SCOPE)
    assert refused.value.status_code == status
    assert code in refused.value.message


async def test_a_secret_that_is_taken_away_gets_no_more_tokens(entra: Entra, credential: Credential) -> None:
    token = (await credential().get_token(SCOPE)).token
    entra.keys = {}
    with pytest.raises(ClientAuthenticationError, match="unauthorized_client"):
        await credential().get_token(SCOPE)
    assert entra.secret_of(token) == ONE
    entra.revoke_all()
    assert entra.secret_of(token) is None


async def test_other_scopes_and_grants_are_refused(entra: Entra, session: aiohttp.ClientSession) -> None:
    form = {"client_id": client_id_of("acme"), "client_secret": ONE, "grant_type": "client_credentials"}
    tls = entra.client_context()
    for changed, code in (({"scope": "https://graph.microsoft.com/.default"}, "invalid_scope"), ({}, "invalid_scope")):
        async with session.post(entra.url + TOKEN_PATH, data=form | changed, ssl=tls) as response:
            assert (response.status, (await response.json())["error"]) == (400, code)
    password = form | {"scope": SCOPE, "grant_type": "password"}
    async with session.post(entra.url + TOKEN_PATH, data=password, ssl=tls) as response:
        assert (response.status, (await response.json())["error"]) == (400, "unsupported_grant_type")
    async with session.get(entra.url + METADATA_PATH, ssl=tls) as response:
        assert (await response.json())["token_endpoint"] == entra.url + TOKEN_PATH
    async with session.get(entra.url + "/common", ssl=tls) as response:
        assert response.status == 404


async def test_it_can_be_slow_broken_or_away(entra: Entra, credential: Credential) -> None:
    held = asyncio.Event()
    entra.faults.add(faults.hold(held))
    waiting = asyncio.create_task(credential().get_token(SCOPE))
    await entra.arrived()
    held.set()
    assert entra.secret_of((await waiting).token) == ONE

    for act in (faults.status(503), faults.garbage(b"<html>"), faults.cut_before_answer()):
        entra.faults.add(act)
        with pytest.raises(AzureError):
            await credential().get_token(SCOPE)

    await entra.refuse()
    with pytest.raises(ServiceRequestError):
        await credential().get_token(SCOPE)
    await entra.allow()
    assert await credential().get_token(SCOPE)


async def test_nobody_trusts_it_unasked(credential: Credential, entra: Entra) -> None:
    with pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"):
        await credential(connection_verify=True).get_token(SCOPE)
    assert entra.journal == []
