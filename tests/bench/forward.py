"""CPU and rate of `GET /v1/threads/{id}`: forwarded, answered from the cache, and through a bare thirty-line proxy, in
one interleaved run.

    make bench        or: python tests/bench/forward.py [rounds] [requests a round]

Each variant is a process of its own; its CPU time is read from /proc, so this needs Linux. Signed ids, the log line,
authentication, limits and key choice are on; the bare proxy has nothing of it.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from gateway.ids import IdSigner, route_of  # noqa: E402  runs as a script
from tests.bench.fixed_upstream import THREAD_ID  # noqa: E402

CONNECTIONS = 16
SIGNING_KEY = "a signing key for measurements"


@dataclass
class Variant:
    """A running proxy and the path that is asked of it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str

    def cpu_s(self) -> float:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def upstream() -> Iterator[int]:
    command = [sys.executable, str(HERE / "fixed_upstream.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


@contextmanager
def bare_proxy(upstream_port: int) -> Iterator[Variant]:
    port = free_port()
    command = [sys.executable, str(HERE / "bare_proxy.py"), str(port), f"http://127.0.0.1:{upstream_port}"]
    with subprocess.Popen(command) as process:
        wait_for(port)
        yield Variant("bare aiohttp proxy", process, port, f"/v1/threads/{THREAD_ID}")
        process.terminate()


@contextmanager
def gateway(upstream_port: int, folder: Path, name: str, cache: str, audit: str = "") -> Iterator[Variant]:
    port = free_port()
    folder.mkdir()
    config = folder / "gateway.yaml"
    config.write_text(
        f"""
providers: {{up: {{vendor: openai, base_url: "http://127.0.0.1:{upstream_port}/v1",
  accounts: {{main: {{keys: {{one: file:secret}}}}}}}}}}
tenants: {{bench: {{keys: [file:tenant]}}}}
signing_keys: [file:signing]
listener: {{port: {port}}}
store: {{data_dir: {folder / "valkey"}}}
cache: {cache}
audit: {{dir: {folder / "audit"}, {audit}}}
"""
    )
    for file, secret in (("secret", "sk-up"), ("tenant", "bench-key"), ("signing", SIGNING_KEY)):
        (folder / file).write_text(secret)
    signer = IdSigner([SIGNING_KEY.encode()])
    public = signer.sign(THREAD_ID, kind="thread", tenant="bench", route=route_of("up", "main"))
    command = [str(Path(sys.executable).parent / "threads-gateway"), "serve", "--config", str(config)]
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process:
        wait_for(port)
        yield Variant(name, process, port, f"/v1/threads/{public}")
        process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


async def load(variant: Variant, requests: int) -> None:
    """Ask over CONNECTIONS kept-open connections, each waiting for its answer; every answer must be a 200."""
    head = f"GET {variant.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer bench-key\r\n\r\n".encode()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", variant.port)
        for _ in range(requests // CONNECTIONS):
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await read_body(reader, answer.lower())
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))


async def read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if b"content-length: " in head:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


def main(rounds: int = 7, requests: int = 3200) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(upstream())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variants = [
            stack.enter_context(bare_proxy(port)),
            stack.enter_context(gateway(port, folder / "forwarded", "forwarded", "{ttl_s: 0}")),
            stack.enter_context(gateway(port, folder / "hit", "cache hit", "{}")),
        ]
        spent: dict[str, list[float]] = {variant.name: [] for variant in variants}
        rates: dict[str, list[float]] = {variant.name: [] for variant in variants}
        for number in range(rounds + 1):
            for variant in variants:
                before, started = variant.cpu_s(), time.perf_counter()
                asyncio.run(load(variant, requests))
                if number:  # the first round warms up
                    spent[variant.name].append((variant.cpu_s() - before) / requests * 1e6)
                    rates[variant.name].append(requests / (time.perf_counter() - started))
    report(spent, rates, rounds)


def report(spent: dict[str, list[float]], rates: dict[str, list[float]], rounds: int) -> None:
    for name, figures in spent.items():
        low, middle, high = min(figures), statistics.median(figures), max(figures)
        rate = statistics.median(rates[name])
        print(f"{name:20} {middle:6.0f} µs CPU a request ({low:.0f}–{high:.0f}), {rate:6.0f} a second")
    print(f"medians of {rounds} rounds, {CONNECTIONS} connections; the rate is also the load's and the upstream's")
    first, *others = spent
    for name in others:
        ratios = [b / a for a, b in zip(spent[first], spent[name], strict=True)]
        print(f"{name} / {first}: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}), pair by pair")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
