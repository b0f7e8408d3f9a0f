"""The real process, as a shell starts it: what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

import gateway
from tests.conftest import StartVendor, eventually

ROOT = Path(gateway.__file__).parents[1]
COMMAND = Path(sys.executable).with_name("threads-gateway")
PATIENCE_S = 20
VENDOR_KEYS = ("OPENAI_API_KEY", "AIMLAPI_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
"""Whoever runs these tests may have them: the demo would spend money."""


class Serving:
    """A gateway process in a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, stderr: Path) -> None:
        self.process = process
        self._stderr = stderr

    async def said(self, last: str) -> str:
        """What it printed, up to the line that is `last`."""
        assert self.process.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while not lines or lines[-1].strip() != last:
                line = await self.process.stdout.readline()
                if not line:
                    raise EOFError(lines, self.stderr)
                lines.append(line.decode())
        return "".join(lines)

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log as it is now; a line that is no JSON fails the test."""
        complete = self.stderr.rpartition("\n")[0].splitlines()
        return [event for line in complete if (event := orjson.loads(line))["event"] == name]

    def signal(self, number: signal.Signals) -> None:
        """To the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def stopped_within_s(self) -> float:
        """From the signal to the end, by its own log."""
        began, ended = (
            datetime.fromisoformat(self.events(name)[0]["time"]) for name in ("gateway.stopping", "gateway.stopped")
        )
        return (ended - began).total_seconds()

    async def ended(self, *, within_s: float = PATIENCE_S) -> int:
        """Its exit code, when it and its Valkey are gone; nothing may have gone wrong silently."""
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
        for started in self.events("valkey.started"):
            assert not Path(f"/proc/{started['pid']}").exists()
        assert "Traceback" not in self.stderr
        assert "Warning" not in self.stderr
        return code


Serve = Callable[..., Awaitable[Serving]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Run `threads-gateway serve` on a configuration, with a folder of its own as working directory."""
    started: list[Serving] = []

    async def run(config: Path, **environ: str) -> Serving:
        stderr = tmp_path / "stderr"
        with stderr.open("w") as file:
            process = await asyncio.create_subprocess_exec(
                COMMAND,
                "serve",
                "--config",
                config,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                cwd=tmp_path,
                env={name: value for name, value in os.environ.items() if name not in VENDOR_KEYS} | environ,
                start_new_session=True,
            )
        started.append(Serving(process, stderr))
        return started[-1]

    yield run
    for serving in started:
        with suppress(ProcessLookupError):
            serving.process.kill()
        await serving.process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Demo:
    """A copy of the demo's configuration on free ports."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "demo.yaml"
        self.port, self.demo_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "demo-provider.key").write_bytes((ROOT / "config" / "demo-provider.key").read_bytes())
        text = (ROOT / "config" / "demo.yaml").read_text()
        self.path.write_text(text.replace("8080", str(self.port)).replace("8090", str(self.demo_port)))

    def change(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))


@pytest.fixture
def demo(serving: None, tmp_path: Path) -> Demo:
    return Demo(tmp_path)


async def post(url: str, body: bytes, headers: dict[str, str]) -> Any:
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == 200
        return await response.json()


class LongStream:
    """A caller who reads a run that takes the demo's model some two seconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._headers = {"Authorization": "Bearer demo-key"}
        self.read = bytearray()
        self.begun = asyncio.Event()

    async def __call__(self) -> None:
        async with aiohttp.ClientSession(self._url, headers=self._headers) as session:
            async with session.post("/v1/assistants", json={"model": "m"}) as response:
                assistant = (await response.json())["id"]
            thread = {"messages": [{"role": "user", "content": "word " * 100}]}
            body = {"assistant_id": assistant, "thread": thread, "stream": True}
            async with session.post("/v1/threads/runs", json=body) as response:
                async for piece in response.content.iter_any():
                    self.read += piece
                    self.begun.set()


async def pasted(greeting: str) -> str:
    """What the program in a greeting prints, or else what it complains of."""
    snippet = textwrap.dedent(greeting.partition("<<'END'\n")[2].rpartition("  END")[0])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, complaints = await process.communicate(snippet.encode())
    return printed.decode() or complaints.decode()


# ---- the first minute ------------------------------------------------------------------------------------------


async def test_what_the_greeting_says_works_when_pasted_and_ctrl_c_ends_all_of_it(serve: Serve, demo: Demo) -> None:
    serving = await serve(demo.path)
    greeting = await serving.said("END")
    assert f"listens on {demo.url}. " in greeting
    keys = " or ".join(VENDOR_KEYS)
    assert f"a small echo model answers. With {keys} in the environment a real one does." in greeting

    curl = greeting.partition("  curl ")[2].partition("\n\n")[0]
    _, url, *options = shlex.split(curl.replace("\\\n", " "))
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = [word for option, word in zip(options[::2], options[1::2], strict=True) if option == "-H"]
    thread = await post(url, given["-d"].encode(), dict(line.split(": ", 1) for line in headers))
    assert thread["object"] == "thread"

    assert await pasted(greeting) == "You said: Hello, gateway!\n"

    serving.signal(signal.SIGINT)
    assert await serving.ended(within_s=2) == 0
    assert len(serving.events("request.done")) == 4
    assert serving.events("gateway.stopped")


@pytest.mark.parametrize(
    ("model", "provider", "variable", "asked_for"),
    [
        ("openai_chat", "openai", "OPENAI_API_KEY", b'"model":"gpt-4o-mini"'),
        ("anthropic_messages", "anthropic", "ANTHROPIC_API_KEY", b'"model":"claude-haiku-5-5"'),
        ("gemini_native", "gemini", "GEMINI_API_KEY", b"/models/gemini-3.8-flash:"),
    ],
)
async def test_a_vendors_key_in_the_environment_lets_its_models_answer(
    model: str, provider: str, variable: str, asked_for: bytes, serve: Serve, demo: Demo, start_vendor: StartVendor
) -> None:
    """And is shown to nobody else."""
    vendor = await start_vendor(model)
    key = vendor.keys[0]
    section = f"  {provider}:\n    vendor: {provider}\n"
    demo.change(section, f"{section}    base_url: {vendor.simulator.url}\n")
    serving = await serve(demo.path, **{variable: key})
    greeting = await serving.said("END")
    assert f"{provider} answers, because {variable} is in the environment" in greeting
    assert await pasted(greeting) == "You said: Hello, gateway!\n"
    [asked] = vendor.simulator.journal
    assert asked.key == key
    assert asked_for in asked.path.encode() + asked.body
    serving.signal(signal.SIGINT)
    assert await serving.ended(within_s=2) == 0
    assert key not in greeting + serving.stderr


# ---- endings ---------------------------------------------------------------------------------------------------


async def test_ctrl_c_does_not_wait_for_a_long_stream(serve: Serve, demo: Demo) -> None:
    serving = await serve(demo.path)
    await serving.said("END")
    stream = LongStream(demo.url)
    reading = asyncio.create_task(stream())
    await stream.begun.wait()
    serving.signal(signal.SIGINT)
    assert await serving.ended(within_s=4) == 0
    assert serving.stopped_within_s() < 2
    assert serving.events("valkey.exited") == []
    with pytest.raises(aiohttp.ClientPayloadError):
        await reading
    assert serving.events("request.done")[-1]["outcome"] == "stopped"


async def test_sigterm_lets_a_stream_end(serve: Serve, demo: Demo) -> None:
    serving = await serve(demo.path)
    await serving.said("END")
    stream = LongStream(demo.url)
    reading = asyncio.create_task(stream())
    await stream.begun.wait()
    serving.signal(signal.SIGTERM)
    await reading
    assert stream.read.endswith(b"event: done\ndata: [DONE]\n\n")
    assert await serving.ended(within_s=4) == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(demo.url + "/v1/threads", b"{}", {})


@pytest.mark.parametrize("manner", ["deadline", "second SIGTERM", "SIGINT after SIGTERM"])
async def test_a_stream_is_not_waited_for_beyond_the_deadline_or_a_second_signal(
    manner: str, serve: Serve, demo: Demo
) -> None:
    if manner == "deadline":
        demo.change("listener:\n", "listener:\n  shutdown_s: 0.2\n")
    serving = await serve(demo.path)
    await serving.said("END")
    stream = LongStream(demo.url)
    reading = asyncio.create_task(stream())
    await stream.begun.wait()
    serving.signal(signal.SIGTERM)
    if manner != "deadline":
        await eventually(lambda: bool(serving.events("gateway.stopping")))
        serving.signal(signal.SIGTERM if manner == "second SIGTERM" else signal.SIGINT)
    assert await serving.ended() == 0
    with pytest.raises(aiohttp.ClientPayloadError):
        await reading
    assert serving.events("request.done")[-1]["outcome"] == "stopped"


async def test_a_signal_while_it_starts_ends_it_too(serve: Serve, demo: Demo) -> None:
    serving = await serve(demo.path)
    await eventually(lambda: bool(serving.events("valkey.started")), within_s=PATIENCE_S)
    serving.signal(signal.SIGTERM)
    assert await serving.ended(within_s=5) == 0


# ---- what is wrong ---------------------------------------------------------------------------------------------


async def fails(serve: Serve, demo: Demo) -> tuple[int, list[str]]:
    """Exit code and what a person is told, which is not the log."""
    serving = await serve(demo.path)
    async with asyncio.timeout(PATIENCE_S):
        code = await serving.process.wait()
    lines = serving.stderr.splitlines()
    assert "Traceback" not in serving.stderr
    for started in (orjson.loads(line) for line in lines if '"valkey.started"' in line):
        assert not Path(f"/proc/{started['pid']}").exists()
    return code, [line for line in lines if not line.startswith("{")]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("vendor: openai", "wendor: openai", "providers.demo.wendor: no such setting"),
        ("file:demo-provider.key", "${NO_SUCH_SECRET_HERE}", "the environment has no NO_SUCH_SECRET_HERE"),
    ],
)
async def test_a_configuration_that_is_wrong_is_told_by_line(
    old: str, new: str, fault: str, serve: Serve, demo: Demo
) -> None:
    demo.change(old, new)
    code, told = await fails(serve, demo)
    assert code == 2
    assert all(line.startswith(f"{demo.path}: ") for line in told)
    assert [line for line in told if fault in line]
    assert len(told) == (2 if "wendor" in new else 1)


@pytest.mark.parametrize("whose", ["the listener's", "the echo model's"])
async def test_a_port_that_is_taken_is_told_in_one_line(whose: str, serve: Serve, demo: Demo) -> None:
    port = demo.port if whose == "the listener's" else demo.demo_port
    with socket.create_server(("127.0.0.1", port)):
        code, told = await fails(serve, demo)
    who = "cannot listen" if whose == "the listener's" else "the echo model cannot listen"
    assert (code, told) == (1, [f"threads-gateway: {who} on 127.0.0.1:{port}: Address already in use"])


async def test_a_data_folder_that_cannot_be_used_is_told_in_one_line(serve: Serve, demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    code, told = await fails(serve, demo)
    assert (code, told) == (1, [f"threads-gateway: store.data_dir {tmp_path}/var/valkey: Not a directory"])
