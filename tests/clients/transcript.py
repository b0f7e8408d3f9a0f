"""What the scripts of `scripts` print: as it is written down, and as they do."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.clients.conftest import PROGRAM_S
from tests.conftest import TENANT_KEYS, Running
from tests.environments import CLIENTS, TESTS

SCRIPTS = CLIENTS / "scripts"
TRANSCRIPT = (SCRIPTS / "transcript.txt").read_text()


def transcript(*names: str) -> str:
    """The part of these scripts."""
    parts = re.split(r"(?m)^(?=--- )", TRANSCRIPT)
    return "".join(part for part in parts if part.partition("\n")[0].removeprefix("--- ") in names)


async def printed(gateway: Running, *names: str, python: str | Path = sys.executable) -> str:
    """What they print indeed, as alice."""
    process = await asyncio.create_subprocess_exec(
        python,
        "-m",
        "tests.clients.scripts",
        *names,
        cwd=TESTS.parent,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONUTF8": "1",
            "OPENAI_BASE_URL": f"{gateway.url}/v1",
            "OPENAI_API_KEY": TENANT_KEYS["alice"],
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PROGRAM_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()
    return said.decode()
