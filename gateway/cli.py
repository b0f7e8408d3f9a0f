"""`threads-gateway`: serve, check a configuration, print its schema, and what operators do with a running gateway.

Exit codes: 0 all went well; 1 the gateway cannot start, or a command cannot do its work; 2 the configuration or the
command line is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from inspect import iscoroutine
from pathlib import Path

import orjson

from gateway import __version__
from gateway.commands.arguments import add_commands
from gateway.commands.command_failed import CommandFailed
from gateway.config import Config, ConfigError, load

_OBJECTS_BETWEEN_COLLECTIONS = 10_000
"""Python's 700 cost 5 % of the time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Faults are told on standard error, one line each."""
    given = _parser().parse_args(arguments)
    try:
        match given.command:
            case "serve":
                return _serve(given.config, load(given.config))
            case "check":
                return _check(given.config)
            case "config-schema":
                return _print_schema()
            case _:
                return _operate(given)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except CommandFailed as failed:
        print(f"threads-gateway: {failed}", file=sys.stderr)
        return failed.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="threads-gateway", description="One Threads API in front of many AI providers."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in (
        ("serve", "run the gateway until SIGTERM or Ctrl-C"),
        ("check", "check a configuration, secrets included, and say every fault"),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the YAML configuration")
    commands.add_parser("config-schema", help="print the JSON schema of the configuration, for editors")
    add_commands(commands)
    return parser


def _serve(path: Path, config: Config) -> int:
    # What only a running gateway needs is imported here, so that the other commands answer at once.
    from gateway import telemetry
    from gateway.app import CannotStart, run_until_signalled
    from gateway.errors import GatewayError

    telemetry.configure()

    def greet(url: str) -> None:
        print(_greeting(config, url), flush=True)

    # What was imported is no garbage, and requests leave little that their last reference does not free.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        asyncio.run(run_until_signalled(config, partial(_load_again, path), greet))
    except (CannotStart, GatewayError) as error:
        print(f"threads-gateway: {getattr(error, 'message', error)}", file=sys.stderr)
        return 1
    return 0


def _load_again(path: Path, files: set[Path]) -> Config:
    return load(path, files=files)


def _check(path: Path) -> int:
    config = load(path)
    accounts = sum(len(provider.accounts) for provider in config.providers.values())
    print(f"{path}: good. {len(config.providers)} providers, {accounts} accounts, {len(config.tenants)} tenants.")
    return 0


def _print_schema() -> int:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    sys.stdout.buffer.write(orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


def _operate(given: argparse.Namespace) -> int:
    from gateway import telemetry

    telemetry.configure(level=logging.CRITICAL)  # what went wrong is told in a sentence
    command = import_module(f"gateway.commands.{given.module}")
    outcome = command.run(given, load(given.config) if given.config is not None else None)
    code: int = asyncio.run(outcome) if iscoroutine(outcome) else outcome
    return code


def _greeting(config: Config, url: str) -> str:
    demo = config.demo
    if demo is None or demo.tenant_key is None:
        return f"threads-gateway {__version__} listens on {url}"
    ready = next((name for name in demo.vendors if name in config.providers), None)
    if ready is not None:
        model, key = demo.vendors[ready].model, demo.vendors[ready].key
        answers = _VENDOR_ANSWERS.format(url=url, provider=ready, key=key, echo=demo.provider)
    else:
        model, keys = "echo", " or ".join(each.key for each in demo.vendors.values())
        answers = _ECHO_ANSWERS + (f" With {keys} in the environment a real one does." if keys else "")
    return _DEMO_GREETING.format(version=__version__, url=url, key=demo.tenant_key, model=model, answers=answers)


_ECHO_ANSWERS = "It keeps threads itself, and a small echo model answers."
_VENDOR_ANSWERS = """\
It keeps threads itself, and {provider} answers, because {key} is in the environment: runs cost money there.
The echo model is still at {url}/providers/{echo}/v1."""
_DEMO_GREETING = """\
threads-gateway {version} listens on {url}. Ctrl-C ends it.
{answers}

Paste this into another terminal, in this folder:

  curl -s {url}/v1/threads -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Hello"}}]}}'

or talk to it as you would to OpenAI:

  .venv/bin/python -W ignore - <<'END'
  from openai import OpenAI

  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  assistant = client.beta.assistants.create(model="{model}", name="Greeter")
  thread = client.beta.threads.create(messages=[{{"role": "user", "content": "Hello, gateway!"}}])
  with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
      for text in stream.text_deltas:
          print(text, end="", flush=True)
  print()
  END
"""

if __name__ == "__main__":
    sys.exit(main())
