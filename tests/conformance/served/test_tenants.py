"""Tenants never meet on served threads either, though all of them stand in one store; and no internal id is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.ids import IdSigner
from gateway.operations import BY_NAME, OPERATIONS
from tests.conformance.conftest import ok
from tests.conformance.served.conftest import ADD, Served
from tests.conftest import SIGNING_KEY, TENANT_KEYS

_SIGNER = IdSigner([SIGNING_KEY.encode()])
_KINDS = {"asst": "assistant", "thread": "thread", "msg": "message", "run": "run", "step": "step"}
_ID = re.compile(rb'"((' + "|".join(_KINDS).encode() + rb')_\w+)"(?!:)')
_BODIES: Mapping[str, Any] = {
    "modify_assistant": {"name": "mine"},
    "modify_thread": {"metadata": {"a": "b"}},
    "create_message": {"role": "user", "content": "x"},
    "modify_message": {"metadata": {"a": "b"}},
    "modify_run": {"metadata": {"a": "b"}},
    "cancel_run": {},
}
WITH_IDS = [
    operation.name
    for operation in OPERATIONS
    if operation.only_in is None and operation.template.startswith(("/assistants/{", "/threads/{"))
]


async def stage(served: Served) -> dict[str, str]:
    """Alice's ids by kind: a run that waits for outputs, and what belongs to it."""
    run = await served.run("call add", ADD)
    [step] = await served.steps(run)
    message = await served.last_message(run["thread_id"])
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    ids = {"assistant": run["assistant_id"], "thread": run["thread_id"], "run": run["id"]}
    return ids | {"step": step["id"], "message": message["id"], "call": call["id"]}


async def seen_by_alice(served: Served, ids: Mapping[str, str]) -> list[Any]:
    names = ("get_assistant", "get_thread", "list_messages", "get_run", "list_run_steps")
    return [await ok(served.gateway, "GET", "/v1" + BY_NAME[name].template.format(**ids)) for name in names]


def body_of(name: str, ids: Mapping[str, str]) -> Any:
    match name:
        case "create_run":
            return {"assistant_id": ids["assistant"]}
        case "submit_tool_outputs":
            return {"tool_outputs": [{"tool_call_id": ids["call"], "output": "3"}]}
        case _:
            return _BODIES.get(name)


async def test_what_alice_made_is_not_there_for_others(served: Served) -> None:
    """Not in the account that bob shares with her, and not in carol's; whatever is tried changes nothing."""
    ids = await stage(served)
    before, asked = await seen_by_alice(served, ids), len(served.model.journal)
    for name in WITH_IDS:
        operation = BY_NAME[name]
        path = "/v1" + operation.template.format(**ids)
        first = next(kind for kind in ids if "{" + kind + "}" in operation.template)
        for tenant in ("bob", "carol"):
            status, answer, _ = await served.gateway.call(operation.method, path, body_of(name, ids), tenant=tenant)
            assert (name, status, answer["error"]["message"]) == (
                name,
                404,
                f"No {first} found with id '{ids[first]}'.",
            )
    assert await seen_by_alice(served, ids) == before
    assert len(served.model.journal) == asked


async def test_alices_assistant_runs_for_nobody_else(served: Served) -> None:
    ids = await stage(served)
    for tenant in ("bob", "carol"):
        thread = await ok(served.gateway, "POST", "/v1/threads", {}, tenant=tenant)
        for path, more in ((f"/v1/threads/{thread['id']}/runs", {}), ("/v1/threads/runs", {"thread": {}})):
            status, answer, _ = await served.gateway.call(
                "POST", path, {"assistant_id": ids["assistant"], **more}, tenant=tenant
            )
            words = f"No assistant found with id '{ids['assistant']}'."
            assert (status, answer["error"]["message"]) == (404, words)


async def test_lists_show_each_tenant_their_own(served: Served) -> None:
    made = {}
    for tenant in TENANT_KEYS:
        body = {"model": "m", "name": tenant}
        made[tenant] = (await ok(served.gateway, "POST", "/v1/assistants", body, tenant=tenant))["id"]
    for tenant, assistant in made.items():
        listed = await ok(served.gateway, "GET", "/v1/assistants", tenant=tenant)
        assert [each["id"] for each in listed["data"]] == [assistant]
        page = await served.gateway.call("GET", f"/v1/assistants?after={made['alice']}", tenant=tenant)
        assert (page[0] == 200) is (tenant == "alice")


async def test_ids_of_two_threads_do_not_mix(served: Served) -> None:
    one, two = await stage(served), await stage(served)
    for kind, path in (
        ("message", f"/v1/threads/{one['thread']}/messages/{two['message']}"),
        ("run", f"/v1/threads/{one['thread']}/runs/{two['run']}"),
        ("run step", f"/v1/threads/{one['thread']}/runs/{one['run']}/steps/{two['step']}"),
    ):
        status, error = await served.refusal("GET", path)
        assert (status, error["message"]) == (404, f"No {kind} found with id '{path.rpartition('/')[2]}'.")


async def test_every_id_in_every_answer_is_a_public_one_of_the_tenant(served: Served) -> None:
    """In objects, lists, cursors and events."""
    assistant = await served.assistant(ADD)
    answers: list[bytes] = []

    async def ask(method: str, path: str, body: Any = None) -> None:
        headers = {"Authorization": f"Bearer {TENANT_KEYS['alice']}"}
        url = served.gateway.url + path
        async with served.gateway.session.request(method, url, json=body, headers=headers) as response:
            assert response.status == 200
            answers.append(await response.read())

    said = {"messages": [{"role": "user", "content": "call add"}]}
    await ask("POST", "/v1/threads/runs", {"assistant_id": assistant, "thread": said, "stream": True})
    thread, run, call = (re.findall(kind + r"_\w+", answers[0].decode())[0] for kind in ("thread", "run", "call"))
    of_thread = f"/v1/threads/{thread}"
    of_run = f"{of_thread}/runs/{run}"
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "3"}], "stream": True}
    await ask("POST", f"{of_run}/submit_tool_outputs", outputs)
    lists = ("/v1/assistants", f"{of_thread}/messages", f"{of_thread}/runs", f"{of_run}/steps")
    for path in (*lists, of_thread, of_run):
        await ask("GET", path)
    found = [(id_.decode(), _KINDS[prefix.decode()]) for raw in answers for id_, prefix in _ID.findall(raw)]
    assert {kind for _, kind in found} == set(_KINDS.values())
    bare = [id_ for id_, kind in found if not _SIGNER.verify(id_, kind=kind, tenant="alice")]
    assert bare == []
