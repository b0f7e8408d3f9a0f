"""`keys`: a person's shell beside a gateway that runs."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from gateway.store.key_states import OPERATOR, KeyState
from tests.commands.conftest import Scene, write_config
from tests.conftest import Events, StartVendor, edit, eventually
from tests.simulators.faults import status

ONE = ("--provider", "openai", "--account", "acme", "--key", "one")


async def test_the_list_shows_state_and_use_of_every_key(scene: Scene) -> None:
    now = time.time()
    rested, used = scene.place("acme", "two"), scene.place("acme", "one")
    scene.shared.keys.put(rested, KeyState("resting", now, now + 600, "rate_limited"))
    scene.shared.keys.put(scene.place("bolt", "one"), KeyState("dead", now, None, "invalid_api_key"))
    scene.shared.usage.note(used, now, requests=12, errors=1, tokens=3456)
    await scene.shared.flush()
    table = (await scene.run("keys", "list")).out.splitlines()
    heads = "PROVIDER ACCOUNT KEY FINGERPRINT STATE SINCE UNTIL WHY NOTE REQUESTS ERRORS TOKENS LAST_USED"
    assert re.split(r" {2,}", table[0].replace("LAST USED", "LAST_USED")) == heads.split()
    rows = [re.split(r" {2,}", line) for line in table[1:]]
    assert [row[:5] for row in rows] == [
        ["openai", "acme", "one", used.fingerprint, "ready"],
        ["openai", "acme", "two", rested.fingerprint, "resting"],
        ["openai", "bolt", "one", scene.place("bolt", "one").fingerprint, "dead"],
    ]
    assert rows[0][9:12] == ["12", "1", "3456"]
    assert datetime.fromisoformat(rows[0][12]).timestamp() == int(now)
    assert datetime.fromisoformat(rows[1][6]).timestamp() == int(now + 600)
    assert (rows[1][7], rows[2][6], rows[2][7]) == ("rate_limited", "-", "invalid_api_key")


async def test_the_list_is_json_for_programs_and_can_be_narrowed(scene: Scene) -> None:
    rows = (await scene.run("keys", "list", "--json")).rows
    assert [(row["account"], row["key"]) for row in rows] == [("acme", "one"), ("acme", "two"), ("bolt", "one")]
    assert rows[0] == {
        "provider": "openai",
        "account": "acme",
        "key": "one",
        "fingerprint": scene.place("acme", "one").fingerprint,
        "state": "ready",
        **dict.fromkeys(("since", "until", "why", "note")),
        "requests": 0,
        "errors": 0,
        "tokens": 0,
        "last_used": None,
    }
    assert len((await scene.run("keys", "list", "--json", "--account", "acme")).rows) == 2
    assert len((await scene.run("keys", "list", "--json", "--key", "one")).rows) == 2


async def test_an_act_is_in_force_within_a_second_and_logged(scene: Scene, events: Events) -> None:
    place = scene.place("acme", "one")

    def state() -> KeyState | None:
        return scene.shared.keys.get(place, time.time())

    (row,) = (await scene.run("keys", "rest", *ONE, "--for", "1h30m", "--reason", "too\nhot \x1b[31m", "--json")).rows
    assert (row["state"], row["why"], row["note"]) == ("resting", OPERATOR, "too hot [31m")
    await eventually(lambda: state() is not None, within_s=1)
    rested = state()
    assert rested is not None
    assert rested.until_s is not None
    assert 5390 < rested.until_s - time.time() < 5400
    assert (rested.kind, rested.why, rested.note) == ("resting", OPERATOR, "too hot [31m")

    ended = await scene.run("keys", "drain", *ONE)
    assert "draining" in ended.out
    await eventually(lambda: (state() or rested).kind == "draining", within_s=1)
    assert (state() or rested).until_s is None
    await scene.run("keys", "revive", *ONE, "--reason", "cooled down")
    await eventually(lambda: state() is None, within_s=1)
    await eventually(lambda: len(events.named("operator.acted")) == 3, within_s=2)
    acts = events.named("operator.acted")
    assert [(act["act"], act["kind"], act["name"], act["reason"]) for act in acts] == [
        ("rest", "key", "openai/acme/one", "too hot [31m"),
        ("drain", "key", "openai/acme/one", ""),
        ("revive", "key", "openai/acme/one", "cooled down"),
    ]
    assert {act["who"] for act in acts} == {f"ann@{socket.gethostname()}"}
    assert abs(acts[0]["acted_s"] - time.time()) < 60


async def test_a_person_revives_what_gateways_found_dead(scene: Scene) -> None:
    place = scene.place("acme", "one")
    scene.shared.keys.put(place, KeyState("dead", time.time() + 3600, None, "invalid_api_key"))
    await scene.shared.flush()
    await scene.run("keys", "revive", *ONE)
    await eventually(lambda: scene.shared.keys.get(place, time.time()) is None, within_s=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["drain", "--key", "three"],
            "no key is named 'three'; there are: openai/acme/one, openai/acme/two, ",
        ),
        (["drain", "--key", "one", "--account", "x"], "no account is named 'x'; there are: acme, bolt"),
        (["list", "--provider", "x"], "no provider is named 'x'; there are: openai"),
        (
            ["drain", "--key", "one"],
            "2 keys have this name, say --provider and --account: openai/acme/one, ",
        ),
    ],
)
async def test_a_key_that_cannot_be_meant_is_told_with_those_there_are(
    words: list[str], told: str, start_vendor: StartVendor, valkey: str, tmp_path: Path
) -> None:
    shell = write_config(tmp_path, await start_vendor("openai"), edit(store={"url": valkey}))
    ended = await shell("keys", *words, expect=2)
    assert ended.out == ""
    assert ended.err.startswith(f"threads-gateway: {told}")
    assert len(ended.err.splitlines()) == 1


def no_gateway(settings: dict[str, object]) -> None:
    """The embedded store of a gateway that does not run."""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (no_gateway, "no gateway runs on store.data_dir {folder}/var: its Valkey does not answer."),
        (edit(store={"url": "redis://127.0.0.1:1"}), "the store does not answer"),
    ],
)
@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revive", "--account", "acme", "--key", "one"]])
async def test_a_gateway_that_does_not_run_is_told(
    command: list[str],
    change: Callable[[dict[str, object]], None],
    told: str,
    start_vendor: StartVendor,
    tmp_path: Path,
) -> None:
    shell = write_config(tmp_path, await start_vendor("openai"), change)
    ended = await shell(*command, expect=1)
    assert ended.out == ""
    assert ended.err.startswith("threads-gateway: " + told.format(folder=tmp_path))
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "var").exists()  # asking starts nothing


async def test_keys_are_tested_at_the_provider_and_keep_their_state(scene: Scene, events: Events) -> None:
    refusal = status(401, {"error": {"message": "no sk-planted", "code": "invalid_api_key"}})
    scene.vendor.simulator.faults.add(refusal, method="GET", path="/assistants$")
    tried = (await scene.run("keys", "test", "--account", "acme", "--json", expect=1)).rows
    assert [(row["outcome"], row["status"], row["code"]) for row in sorted(tried, key=lambda row: row["outcome"])] == [
        ("good", 200, None),
        ("refused", 401, "invalid_api_key"),
    ]
    asked = scene.vendor.simulator.journal[-2:]
    assert {(one.method, one.path, one.query) for one in asked} == {("GET", "/v1/assistants", "limit=1")}
    assert {one.key for one in asked} == set(scene.vendor.keys[:2])
    assert {one.headers["OpenAI-Beta"] for one in asked} == {"assistants=v2"}
    assert scene.shared.keys.all(time.time()) == {}
    await eventually(lambda: len(events.named("operator.acted")) == 2, within_s=2)
    assert {act["reason"] for act in events.named("operator.acted")} == {"good 200", "refused 401 invalid_api_key"}
    again = await scene.run("keys", "test", *ONE)
    assert "good" in again.out


async def test_a_test_needs_no_store_and_tells_a_provider_that_is_not_there(
    start_vendor: StartVendor, tmp_path: Path
) -> None:
    vendor = await start_vendor("openai")
    shell = write_config(tmp_path, vendor)
    (row,) = (await shell("keys", "test", *ONE, "--json")).rows
    assert row["outcome"] == "good"
    await vendor.simulator.refuse()
    (row,) = (await shell("keys", "test", *ONE, "--json", expect=1)).rows
    assert (row["outcome"], row["status"], row["code"]) == ("failed", None, "provider_unreachable")


async def test_commands_at_the_same_time_do_not_harm_each_other(scene: Scene) -> None:
    keys = [("acme", "one"), ("acme", "two"), ("bolt", "one")]
    await asyncio.gather(*(scene.run("keys", "drain", "--account", account, "--key", key) for account, key in keys))
    rows = (await scene.run("keys", "list", "--json")).rows
    assert {row["state"] for row in rows} == {"draining"}
