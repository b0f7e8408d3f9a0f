"""CPU of a served run whose model says 50 deltas: streamed to its caller, and not streamed.

    make bench        or: python tests/bench/serve.py [rounds] [runs a round]

The gateway's process alone is measured (from /proc, so this needs Linux): store, model and caller have their own. Each
run is on a thread of its own, of one message; ids, the log, limits, keys and settlement are on.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.bench.fixed_model import DELTAS  # noqa: E402  runs as a script
from tests.bench.forward import Variant, free_port, wait_for  # noqa: E402

AT_ONCE = 16
_KEY = {"Authorization": "Bearer bench-key"}


@contextmanager
def model() -> Iterator[int]:
    with subprocess.Popen([sys.executable, str(HERE / "fixed_model.py")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def gateway(model_port: int, folder: Path) -> Iterator[Variant]:
    port = free_port()
    config = folder / "gateway.yaml"
    config.write_text(
        f"""
providers: {{up: {{vendor: openai, base_url: "http://127.0.0.1:{model_port}/v1", serve: threads,
  model_api: chat_completions, accounts: {{main: {{keys: {{one: file:secret}}}}}}}}}}
tenants: {{bench: {{keys: [file:tenant]}}}}
signing_keys: [file:signing]
listener: {{port: {port}}}
store: {{data_dir: {folder / "valkey"}}}
"""
    )
    for file, secret in (("secret", "sk-up"), ("tenant", "bench-key"), ("signing", "a signing key for measurements")):
        (folder / file).write_text(secret)
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)]
    log = (folder / "log").open("wb")
    with (
        log,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=HERE.parent.parent) as process,
    ):
        try:
            wait_for(port)
            yield Variant("gateway", process, port, "")
        finally:
            process.terminate()


async def post(session: aiohttp.ClientSession, path: str, body: object) -> str:
    async with session.post(path, json=body) as response:
        answer = await response.read()
        assert response.status == 200, answer
        found: str = answer.decode()
        return found


async def make(session: aiohttp.ClientSession, path: str, body: object) -> str:
    async with session.post(path, json=body) as response:
        found: str = (await response.json())["id"]
        return found


async def run_all(port: int, runs: int, *, streamed: bool, cpu: Variant) -> tuple[float, float]:
    """CPU of the gateway and time for each run, in seconds; the threads were made before."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=_KEY) as session:
        assistant = await make(session, "/v1/assistants", {"model": "m", "instructions": "Be brief."})
        said = {"messages": [{"role": "user", "content": "How are you?"}]}
        threads = [await make(session, "/v1/threads", said) for _ in range(runs)]
        turns = asyncio.Semaphore(AT_ONCE)

        async def run(thread: str) -> None:
            async with turns:
                body = {"assistant_id": assistant, "stream": streamed}
                answer = await post(session, f"/v1/threads/{thread}/runs", body)
                if streamed:
                    assert answer.count("event: thread.message.delta") == DELTAS
                    assert answer.endswith("data: [DONE]\n\n")
                else:
                    await asyncio.sleep(0.4)  # longer than the model takes, so nobody asks

        before, started = cpu.cpu_s(), time.perf_counter()
        await asyncio.gather(*map(run, threads))
        return (cpu.cpu_s() - before) / runs, (time.perf_counter() - started) / runs


def main(rounds: int = 5, runs: int = 160) -> None:
    with ExitStack() as stack:
        model_port = stack.enter_context(model())
        variant = stack.enter_context(gateway(model_port, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        spent: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds + 1):
            for streamed in spent:
                cpu_s, _ = asyncio.run(run_all(variant.port, runs, streamed=streamed, cpu=variant))
                if number:  # the first round warms up
                    spent[streamed].append(cpu_s * 1e3)
    for streamed, figures in spent.items():
        what = "streamed" if streamed else "not streamed, nobody asks"
        print(
            f"a served run of {DELTAS} deltas, {what}: {statistics.median(figures):.2f} ms CPU"
            f" ({min(figures):.2f}–{max(figures):.2f}), {rounds} rounds of {runs} runs, {AT_ONCE} at once"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
