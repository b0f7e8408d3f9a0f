"""What the audit trail costs a whole gateway: CPU of a forwarded GET, a forwarded POST and a cache hit, without a
trail, with it (`ack`, metadata), and with bodies kept (`full`); one interleaved run.

    python tests/bench/audited.py [rounds] [requests a round]

"loop" is the CPU of the event loop's thread, "in all" that of the process, the trail's thread with it. Differences are
those of neighbours: in each round all variants take turns.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.bench.forward import CONNECTIONS, Variant, gateway, read_body, upstream  # noqa: E402  runs as a script

AUDITS = {"off": "enabled: false", "ack": "mode: ack", "full": "mode: ack, policy: [{level: full}]"}
_POST = b'{"messages":[{"role":"user","content":"What is the weather in Paris?"}],"metadata":{"order":"17"}}'


class Spent(NamedTuple):
    """µs of CPU a request."""

    loop: float
    in_all: float


def request(variant: Variant, asks: str) -> bytes:
    head = "Host: bench\r\nAuthorization: Bearer bench-key\r\n"
    if asks == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(_POST)}\r\n"
        return f"POST /v1/threads HTTP/1.1\r\n{head}\r\n".encode() + _POST
    return f"GET {variant.path} HTTP/1.1\r\n{head}\r\n".encode()


async def load(variant: Variant, asking: bytes, requests: int) -> None:
    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", variant.port)
        for _ in range(requests // CONNECTIONS):
            writer.write(asking)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await read_body(reader, answer.lower())
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))


def loop_s(variant: Variant) -> float:
    place = f"/proc/{variant.process.pid}/task/{variant.process.pid}/schedstat"
    return int(Path(place).read_text().split()[0]) / 1e9


def spend(variant: Variant, asks: str, requests: int) -> Spent:
    loop, in_all = loop_s(variant), variant.cpu_s()
    asyncio.run(load(variant, request(variant, asks), requests))
    return Spent((loop_s(variant) - loop) / requests * 1e6, (variant.cpu_s() - in_all) / requests * 1e6)


def main(rounds: int = 7, requests: int = 1600) -> None:
    spent: dict[tuple[str, str], list[Spent]] = defaultdict(list)
    with ExitStack() as stack:
        port = stack.enter_context(upstream())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variants = {
            (cache, name): stack.enter_context(gateway(port, folder / f"{cache}-{name}", name, settings, audit))
            for name, audit in AUDITS.items()
            for cache, settings in (("forwarded", "{ttl_s: 0}"), ("hit", "{}"))
        }
        for number in range(rounds + 1):
            for asks, cache in (("GET", "forwarded"), ("POST", "forwarded"), ("hit", "hit")):
                for name in AUDITS:
                    figure = spend(variants[cache, name], asks, requests)
                    if number:  # the first round warms up
                        spent[asks, name].append(figure)
    report(spent)
    print(f"medians of {rounds} rounds of {requests} requests, {CONNECTIONS} connections, pair by pair")


def report(spent: dict[tuple[str, str], list[Spent]]) -> None:
    for (asks, name), figures in spent.items():
        pairs = list(zip(figures, spent[asks, "off"], strict=True))
        loop = statistics.median(each.loop - off.loop for each, off in pairs)
        in_all = statistics.median(each.in_all - off.in_all for each, off in pairs)
        whole = statistics.median(each.in_all for each in figures)
        print(f"{asks:5} {name:5} {whole:6.0f} µs in all; the trail: loop {loop:+5.0f} µs, in all {in_all:+5.0f} µs")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
