"""A process that records under load until it is killed: `python recording.py FOLDER NAME [MODE]`.

It prints the id of each request whose record was acknowledged, one a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway import telemetry
from gateway.audit.opening import open_trail
from tests.values import SETTINGS, config_of


async def record(folder: str, name: str, mode: str) -> None:
    audit = {"dir": folder, "replica": "web", "mode": mode, "rotate_bytes": 40_000, "checkpoint_s": 0.2}
    trail = open_trail(config_of({**SETTINGS, "audit": audit}))
    trail.start()

    async def caller(caller: int) -> None:
        number = 0
        while True:
            request_id = f"{name}-{caller}-{number}"
            await trail.write("request.started", {"request_id": request_id, "text": "x" * 200})
            os.write(1, f"{request_id}\n".encode())
            number += 1

    await asyncio.gather(*(caller(number) for number in range(16)))


if __name__ == "__main__":
    telemetry.configure()
    asyncio.run(record(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "ack"))
