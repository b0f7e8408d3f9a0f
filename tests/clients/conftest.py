"""A gateway that clients of every kind can reach, and how one of their programs is run against it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.ids import IdSigner
from tests.conformance.conftest import Issued, remember
from tests.conftest import SIGNING_KEY, Events, Running, StartGateway, StartVendor, Vendor
from tests.simulators import faults

pytest.register_assert_rewrite("tests.clients.conversation")

PROGRAM_S = 120
INSTALL_S = 900
"""For `pytest.mark.timeout` of tests that may have to build an environment first."""

DOORS = (
    pytest.param("openai", marks=pytest.mark.client(door="OpenAI")),
    pytest.param("azure", marks=pytest.mark.client(door="AzureOpenAI")),
)
"""The two kinds of client that the SDKs have: by base URL and bearer key, and Azure's by endpoint and `api-key`."""
VENDORS = ("openai", "azure")
_SIGNER = IdSigner([SIGNING_KEY.encode()])


@dataclass
class Stand:
    """A gateway in front of one vendor. `issued` None: the vendor has no Threads, the gateway serves them."""

    gateway: Running
    vendor: Vendor
    events: Events
    issued: Issued | None

    def environ(self, door: str) -> dict[str, str]:
        """All that a user changes in a program's environment, in the words of the SDKs."""
        if door == "azure":
            return {
                "AZURE_OPENAI_ENDPOINT": self.gateway.url,
                "AZURE_OPENAI_API_KEY": "alice-key",
                "OPENAI_API_VERSION": "2024-05-01-preview",
            }
        return {"OPENAI_BASE_URL": f"{self.gateway.url}/v1", "OPENAI_API_KEY": "alice-key"}

    async def run(self, *command: str | Path, door: str = "openai", **environ: str) -> dict[str, Any]:
        """What the program saw: all the facts it printed, but for those named `KIND_ids`. These are lists of ids and
        must be alice's; and no id at all may be as the vendor spells it."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": os.environ["PATH"], **self.environ(door), **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PROGRAM_S):
                printed, complaints = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, (printed + complaints).decode()
        assert self.issued is None or not self.issued.bare(printed)
        facts: dict[str, Any] = {}
        for line in printed.splitlines():
            for name, value in orjson.loads(line).items():
                if name.endswith("_ids"):
                    kind = name.removesuffix("_ids")
                    assert all(_SIGNER.verify(each, kind=kind, tenant="alice") for each in value), (name, value)
                else:
                    facts[name] = value
        return facts


@pytest.fixture(params=VENDORS)
async def stand(
    request: pytest.FixtureRequest, start_vendor: StartVendor, start_gateway: StartGateway, events: Events
) -> Stand:
    """Each of the vendors that clients were written for, in turn. It cuts a stream short that is asked to break off."""
    vendor = await start_vendor(request.param)
    vendor.simulator.faults.add(faults.cut(1000), where=lambda received: b"break off" in received.body, times=None)
    return Stand(await start_gateway(vendor), vendor, events, remember(vendor))


@pytest.fixture
async def served(serving: None, start_vendor: StartVendor, start_gateway: StartGateway, events: Events) -> Stand:
    """Over a model that cuts its answer short when it is asked to break off."""
    vendor = await start_vendor("openai_chat")
    vendor.simulator.faults.add(faults.cut_stream(3), where=lambda received: b"break off" in received.body, times=None)
    return Stand(await start_gateway(vendor), vendor, events, None)


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Served runs expire after two seconds."""
    monkeypatch.setattr("gateway.engine.objects.RUN_LIFE_S", 2)
