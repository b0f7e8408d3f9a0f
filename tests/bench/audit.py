"""What a record of the audit trail costs: CPU on the event loop and in all, the wait for its promise, and verifying.

    python tests/bench/audit.py [rounds] [records a round]

All variants take turns in each round; the median of the rounds counts. "loop" is the CPU of the loop's own thread less
that of the same loop without a trail, "in all" that of the process.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from gateway import telemetry  # noqa: E402  runs as a script
from gateway.audit.file_set import FileSet  # noqa: E402
from gateway.audit.trail import Mode, Trail  # noqa: E402
from gateway.audit.verify import verify  # noqa: E402

FACTS: dict[str, Any] = {
    "client_request_id": None,
    "tenant": "shop",
    "tenant_key": "e3c01eb9cd74",
    "client": "10.0.0.7",
    "method": "POST",
    "path": "/v1/threads/thread_abc123Xk4p0f3c9aXk4p0f3c9aXk4p/runs",
    "operation": "create_run",
    "public_ids": ["thread_abc123Xk4p0f3c9aXk4p0f3c9aXk4p"],
    "upstream_ids": ["thread_abc123"],
    "provider": "aiml",
    "account": "main",
    "model": "gpt-4o",
    "level": "metadata",
}

Write = Callable[[int], Awaitable[None]]


async def spend(write: Write, *, callers: int, records: int) -> tuple[float, float, list[float]]:
    """µs a record on the loop's thread and in all, and each record's wait in ms."""
    waits: list[float] = []

    async def caller() -> None:
        for number in range(records // callers):
            began = time.perf_counter()
            await write(number)
            waits.append((time.perf_counter() - began) * 1e3)

    await asyncio.sleep(0.1)
    loop, whole = time.thread_time(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    loop = time.thread_time() - loop
    await asyncio.sleep(0.2)  # what is queued is written
    whole = time.process_time() - whole
    count = records // callers * callers
    return loop / count * 1e6, whole / count * 1e6, waits


async def nothing(number: int) -> None:
    pass


def open_in(folder: Path, mode: Mode) -> Trail:
    return Trail(
        lambda skipped: FileSet(folder, replica="bench", boot="20261122T031415Z000000", facts={}, sync=mode == "fsync"),
        mode=mode,
        rotate_bytes=1 << 40,
    )


async def measure(rounds: int, records: int) -> None:
    telemetry.configure()
    variants: list[tuple[str, Mode, int]] = [
        ("buffered", "buffered", 64),
        ("ack, 1 caller", "ack", 1),
        ("ack, 64 callers", "ack", 64),
        ("fsync, 1 caller", "fsync", 1),
        ("fsync, 64 callers", "fsync", 64),
    ]
    seen: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name, _, _ in variants}
    verified: list[float] = []
    size = 0
    for _ in range(rounds):
        for name, mode, callers in variants:
            with tempfile.TemporaryDirectory(dir=HERE) as folder:
                count = records if name != "fsync, 1 caller" else records // 10
                bare = await spend(nothing, callers=callers, records=count)
                trail = open_in(Path(folder), mode)
                trail.start()

                async def write(number: int, trail: Trail = trail) -> None:
                    await trail.write("request.started", {"request_id": f"req_{number:024d}", **FACTS})
                    while trail.queued > 4000:  # `buffered` drops what comes faster than it can be written
                        await asyncio.sleep(0.001)

                loop, whole, waits = await spend(write, callers=callers, records=count)
                await trail.close()
                assert not trail.lost
                seen[name].append((loop - bare[0], whole - bare[1], waits))
                if name == "ack, 64 callers":
                    began = time.process_time()
                    report = verify(Path(folder))
                    verified.append((time.process_time() - began) / report.records * 1e6)
                    assert report.is_good
                    size = sum(path.stat().st_size for path in Path(folder).iterdir()) // report.records
    for name, runs in seen.items():
        waits = sorted(wait for _, _, each in runs for wait in each)
        print(
            f"{name:18}  loop {statistics.median(run[0] for run in runs):5.1f} µs  "
            f"in all {statistics.median(run[1] for run in runs):5.1f} µs  "
            f"wait p50 {waits[len(waits) // 2]:.3f} ms  p99 {waits[len(waits) * 99 // 100]:.3f} ms"
        )
    print(f"verify {statistics.median(verified):.1f} µs a record of {size} bytes")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    asyncio.run(measure(*(numbers + [5, 20_000][len(numbers) :])))
