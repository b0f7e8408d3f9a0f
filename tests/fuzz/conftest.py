"""An arena: one gateway and one vendor for all cases of a module, put back as they were before each case.

`holes` in a case stand for what only the arena knows: `{thread}` for an id of the caller, `{bob.thread}` for one of
another tenant, `{forged.thread}` for one whose tail is wrong, `{busy.thread}` for one whose run waits for outputs, and
`{long}`, `{many}` and `{deep}` for what is too much to be shown.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from gateway import telemetry
from gateway.app import App
from tests.conformance.conftest import Issued, Remembering, stage
from tests.conftest import (
    SIGNING_KEY,
    TENANT_KEYS,
    Events,
    Running,
    Vendor,
    _Lines,
    edit,
    environ_for,
    load_settings,
    settings_for,
)
from tests.described import faults
from tests.simulators import find_vendors
from tests.simulators.base import Simulator
from tests.simulators.threads_server.ask import Ask
from tests.simulators.threads_server.refusal import Refused
from tests.simulators.threads_server.server import Reply, json_reply
from tests.simulators.threads_server.world import World
from tests.wire import Answer, Wire

KEY = TENANT_KEYS["alice"].encode()
"""The caller's."""
WITHIN_S = 5.0
"""Every answer is whole by then. Nothing in the arena takes longer than a few milliseconds."""
_LINES = {"request.done", "request.malformed"}
_QUIET = _LINES | {"home.chosen", "list.cut_off", "run.settled"}
"""Events that a request may cause, strange or not."""
_HOLE = re.compile(rb"\{([a-z_.]+)\}")
_ERROR = {"$ref": "#/components/schemas/Error"}


class Ids(Remembering):
    """The same memory in every copy of a world."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Ids:
        return self


def forgiving(simulator: Simulator) -> None:
    """Where the simulator has no answer to nonsense it refuses it: a vendor's own failures are not looked for here."""
    reply = simulator.reply

    def forgive(ask: Ask) -> Reply:
        try:
            return reply(ask)
        except Exception as exc:
            refused = Refused(f"this is not understood: {type(exc).__name__}")
            return json_reply(400, simulator.dialect.error_body(refused), {})

    simulator.reply = forgive  # type: ignore[method-assign]


class Arena:
    """A gateway to be tried, and what must never be seen of it."""

    def __init__(self, gateway: Running, vendor: Vendor, events: Events) -> None:
        self.gateway = gateway
        self.vendor = vendor
        self.events = events
        self.holes: Mapping[str, str] = {}
        self._wire: Wire | None = None

    async def seed(self) -> None:
        """Objects of two tenants in one account, kept so that every case finds them."""
        self.theirs = self._remember()
        bob = await stage(self.gateway, "bob")
        self.mine = self._remember()
        idle, busy = await stage(self.gateway), await stage(self.gateway, say="call add")
        self.holes = {
            "long": "y" * 70_000,
            "many": "X: y\r\n" * 300,
            "deep": "[" * 3000,
            **idle,
            "call": busy["call"],
            **{f"busy.{kind}": shown for kind, shown in busy.items()},
            **{f"bob.{kind}": shown for kind, shown in bob.items()},
            **{f"forged.{kind}": shown[:-1] + ("1" if shown[-1] == "0" else "0") for kind, shown in idle.items()},
        }
        self._seeded = (copy.deepcopy(self._world), dict(self.mine.memory.made))
        self.reset()

    @property
    def _world(self) -> World:
        return self.vendor.simulator.worlds["acme"]

    def _remember(self) -> Issued:
        self._world.ground.ids = Ids(self._world.ground.ids.prefixes)
        return Issued(self.vendor.name, "acme", self._world.ground.ids)

    def reset(self) -> None:
        world, made = self._seeded
        if any(received.method != "GET" for received in self.vendor.simulator.journal):
            self.vendor.simulator.worlds["acme"] = copy.deepcopy(world)
        self.mine.memory.made.clear()
        self.mine.memory.made.update(made)
        self.vendor.simulator.journal.clear()
        self.events.clear()

    def fill(self, data: bytes, *, busy: bool = False) -> bytes:
        """With ids in the place of holes; with those of the waiting run if `busy`."""

        def fill(hole: re.Match[bytes]) -> bytes:
            name = hole[1].decode()
            found = self.holes.get(f"busy.{name}" if busy else name) or self.holes.get(name)
            return hole[0] if found is None else found.encode()

        return _HOLE.sub(fill, data)

    async def ask(self, data: bytes) -> Answer:
        """The answer to one whole request, on a connection that is kept while the gateway keeps it."""
        async with asyncio.timeout(WITHIN_S):
            is_kept = self._wire is not None
            try:
                return await self._ask(data)
            except (EOFError, ConnectionError):
                self.hang_up()
                if is_kept:  # for too long, and closed in between
                    return await self._ask(data)
                raise

    async def _ask(self, data: bytes) -> Answer:
        self._wire = self._wire or await Wire.dial(self.gateway.url)
        await self._wire.send(data)
        while (answer := await self._wire.answer()).status == 100:
            pass
        if answer.headers.get("Connection", "").lower() == "close":
            self.hang_up()
        return answer

    async def line(self) -> dict[str, Any]:
        """The one line of the request just answered; it is written after the answer."""
        async with asyncio.timeout(WITHIN_S):
            while not (lines := [each for each in self.events if each["event"] in _LINES]):
                await asyncio.sleep(0)
        (line,) = lines
        return line

    @property
    def connections(self) -> int:
        """How many connections of callers are open."""
        server = self.gateway.app._server
        assert server is not None
        return len(server.connections)

    def hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def check(self, answer: Answer, words: Sequence[bytes] = ()) -> None:
        """What holds of every answer, whatever was asked. `words` are the caller's own that it may hear again."""
        assert answer.status == 100 or 200 <= answer.status < 500, answer
        if answer.status >= 400:
            assert not faults(json.loads(answer.body), _ERROR), answer
        lines = "\r\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        told = lines.encode("utf-8", "surrogateescape") + b"\r\n" + answer.body
        for inside in (*self._secrets, b"Traceback", b'File "'):
            assert inside not in told or inside in words, told
        for word in (*words, *(shown.encode() for name, shown in self.holes.items() if name.startswith("forged."))):
            told = told.replace(word, b"")
        assert not self.mine.bare(told), told
        assert not self.theirs.bare(told, "bob"), told

    def check_behind(self, words: Sequence[bytes] = ()) -> None:
        """What the operator and the provider saw: no crash, no secret, nothing of the other tenant. A caller may have
        said its key where no key belongs; then it is among its `words`."""
        assert {event["event"] for event in self.events} <= _QUIET, self.events
        lines = orjson.dumps(self.events)
        assert not any(secret in lines for secret in self._secrets if secret not in words), lines
        for received in self.vendor.simulator.journal:
            heard = f"{received.path}?{received.query}\n{received.headers}\n".encode() + received.body
            assert not self.theirs.bare(heard, "bob"), heard
            assert KEY in words or KEY not in heard, heard

    @property
    def _secrets(self) -> list[bytes]:
        return [each.encode() for each in (*self.vendor.keys, *TENANT_KEYS.values(), SIGNING_KEY)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(
    valkey: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Arena]:
    """A module may have `SETTINGS` of its own, by their places."""
    events = Events()
    telemetry.configure(_Lines(events))  # type: ignore[arg-type]
    simulator = find_vendors()["openai"](
        keys={"sk-openai-acme-one": "acme", "sk-openai-acme-two": "acme", "sk-openai-bolt-one": "bolt"}
    )
    forgiving(simulator)
    await simulator.start()
    vendor = Vendor("openai", simulator)
    settings = settings_for([vendor], valkey)
    edit(limits__json_bytes=256 * 1024, **getattr(request.module, "SETTINGS", {}))(settings)
    app = App(load_settings(settings, tmp_path_factory.mktemp("arena"), environ_for([vendor])))
    await app.start()
    assert app.polling is not None
    await app.polling.close()  # in a module that takes long it would ask for runs of cases before
    async with aiohttp.ClientSession() as session:
        arena = Arena(Running(app, session), vendor, events)
        await arena.seed()
        yield arena
        arena.hang_up()
    await app.stop(grace_s=1)
    await simulator.stop()
