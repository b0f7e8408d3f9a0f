"""`tenants erase` after everything that tenants can do: nothing of the one is left, nothing of the other is touched."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from gateway.audit.reading import WrittenTrail
from gateway.audit.verify import verify
from gateway.cli import _parser
from gateway.commands import erase_tenant
from tests.conformance.conftest import remember
from tests.conformance.test_tenants_never_meet import prefix_of, whole_session
from tests.conftest import Running, StartGateway, StartVendor, edit, eventually

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STAYS = {
    "switches": "that it is disabled and erased",
    "acts": "that an operator erased it, by name",
    "tenant_keys": "digests of its keys, revoked",
}
BUSY = {"acts", "switches", "replicas", "tenant_keys", "tenant_keys_used"}
"""What changes by itself, or by the act."""
LIMITS = {
    "requests_per_minute": 100_000,
    "concurrent_requests": 1000,
    "concurrent_streams": 1000,
    "tokens_per_day": 10**9,
    "bytes_per_day": 10**12,
}

Dump = dict[str, Any]


async def dump(valkey: str, prefix: str) -> Dump:
    """Every key of a gateway, without the prefix, and what it holds."""
    found: Dump = {}
    async with Redis.from_url(valkey, decode_responses=True, encoding_errors="replace") as redis:
        for key in [*await redis.keys(f"{prefix}:*"), *await redis.keys(f"{{{prefix}:*")]:
            match await redis.type(key):
                case "hash":
                    held: Any = await redis.hgetall(key)  # type: ignore[misc]
                case "zset":
                    held = dict(await redis.zrange(key, 0, -1, withscores=True))
                case "stream":
                    held = [words for _, words in await redis.xrange(key)]
                case "string":
                    held = await redis.get(key)
                case kind:
                    raise AssertionError(kind)
            found[key.removeprefix(f"{prefix}:")] = held
    return found


def about(dumped: Mapping[str, Any], word: str) -> set[str]:
    """The keys that name it, or hold something that does."""
    return {key for key, held in dumped.items() if word in key or word in repr(held)}


async def flush(gateway: Running) -> None:
    assert gateway.app.shared is not None
    assert gateway.app.limiting is not None
    await gateway.app.shared.flush()
    await gateway.app.limiting.flush()


async def erase(gateway: Running, *words: str) -> dict[str, int]:
    """What the command says it has removed. It waits until the gateway has heard."""
    given = _parser().parse_args(["tenants", "erase", *words, "--json", "--config", "gateway.yaml"])
    shared = gateway.app.shared
    assert shared is not None

    async def pause(seconds: float) -> None:
        await eventually(lambda: shared.switches.is_erased(words[0]), within_s=seconds)

    printed = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with redirect_stdout(printed):
        assert await erase_tenant.run(given, gateway.app._config, pause=pause) == 0
    rows = orjson.loads(printed.buffer.getvalue())  # type: ignore[attr-defined]
    return {row["what"]: row["removed"] for row in rows}


async def test_nothing_of_an_erased_tenant_is_left_and_nothing_of_another_is_touched(
    start_vendor: StartVendor,
    start_gateway: StartGateway,
    valkey: str,
    tmp_path: Path,
) -> None:
    """Alice and bob do everything there is, with every limit, the cache on and bodies kept; then alice is erased, while
    the gateway runs."""
    vendor, settings = await start_vendor("openai"), []
    issued = remember(vendor)
    folder = tmp_path / "audit"
    audit = {"enabled": True, "dir": str(folder), "policy": [{"level": "full"}]}

    def change(given: dict[str, Any]) -> None:
        edit(cache__ttl_s=30, audit=audit, tenants__alice__limits=LIMITS, tenants__bob__limits=LIMITS)(given)
        for tenant in ("alice", "bob"):
            del given["tenants"][tenant]["home_accounts"]  # they are hashed and remembered
        settings.append(given)

    gateway = await start_gateway(vendor, change=change)
    shared, prefix = gateway.app.shared, prefix_of(settings)
    assert shared is not None
    await whole_session(gateway, vendor, "alice")
    alices = re.compile("alice|" + "|".join(re.escape(upstream) for upstream, _ in issued))
    for tenant in ("alice", "bob"):
        secret, _ = await shared.tenant_keys.issue(tenant, name=f"{tenant}s laptop")
        await gateway.call("GET", "/v1/assistants", tenant=tenant, headers={"Authorization": f"Bearer {secret}"})
    await whole_session(gateway, vendor, "bob")
    await flush(gateway)
    before = await dump(valkey, prefix)
    kinds = {key.split(":")[0] for key in about(before, "alice")}
    assert kinds >= {"c", "own", "idem", "idem-times", "runs", "homes", "rate", "bytes", "tokens", "usage"}
    assert len(before["tenant_keys_used"]) == 4

    told = await erase(gateway, "alice", "--yes")
    assert min(told[what] for what in told if "bodies" not in what and "served" not in what) > 0, told
    after = await dump(valkey, prefix)
    left = {key for key, held in after.items() if alices.search(key) or alices.search(repr(held))}
    assert {key.split(":")[0] for key in left} == {*STAYS, "usage"}
    assert alices.sub("", repr(after["tenant_keys"])).count("laptop") == 1
    assert len(after["tenant_keys_used"]) == 2
    for key, held in before.items():
        if alices.search(key) or key.split(":")[0].strip("{}") in BUSY:
            continue
        others = {name: each for name, each in held.items() if "alice" not in name} if type(held) is dict else held
        assert after[key] == others, key

    # its bodies are deleted, the records say so, and are as good as they were
    await eventually(lambda: not [path for path in (folder / "bodies").iterdir() if path.name.startswith("alice-")])
    assert [path for path in (folder / "bodies").iterdir() if path.name.startswith("bob-")]
    records = [row.record for row in WrittenTrail(folder).read()]
    [erased] = [each for each in records if each["kind"] == "tenant.erased"]
    assert (erased["tenant"], erased["tenant_id"]) == ("alice", "alice")
    assert [each["name"] for each in records if each.get("act") == "erase"] == ["alice"]
    assert len([each for each in records if each.get("tenant") == "alice"]) > 50

    # whoever calls as alice leaves nothing behind, a new gateway does not either, and usage goes when it is asked for
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 403
    told = await erase(gateway, "alice", "--usage")
    assert told.pop("months of usage") >= 1
    assert set(told.values()) == {0}, told
    assert (await gateway.call("POST", "/v1/threads", {}))[0] == 403
    await flush(gateway)
    again = await start_gateway(vendor, change=lambda given: given.update(settings[0]))
    assert (await again.call("GET", "/v1/assistants", tenant="bob"))[0] == 200
    assert (await again.call("POST", "/v1/threads", {}))[0] == 403
    await flush(again)
    last = await dump(valkey, prefix)
    assert {key.split(":")[0] for key in about(last, "alice")} == STAYS.keys()
    assert last["tenant_keys_used"].keys() == after["tenant_keys_used"].keys()
    await gateway.app.stop()
    await again.app.stop()
    assert verify(folder).is_good
