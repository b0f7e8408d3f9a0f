"""Runs the scripts that are named, or all."""

import sys
import warnings
from importlib import import_module

from openai import OpenAI

from tests.clients.scripts import ALL, TEN_MINUTES


def main(names):
    if unknown := {*names} - {*ALL, *TEN_MINUTES}:
        sys.exit(f"no such script: {', '.join(sorted(unknown))}; there are {', '.join(ALL + TEN_MINUTES)}")
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # newer SDKs say so at every call
    client = OpenAI()
    for name in names or ALL:
        print(f"--- {name}")
        import_module(f"tests.clients.scripts.{name}").run(client)
        print(flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
