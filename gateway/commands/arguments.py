"""The command line of the operators' commands. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

_DURATION = re.compile(r"(?:\d+[smhd])+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Commands = argparse._SubParsersAction  # it has no public name
Parser = argparse.ArgumentParser


def add_commands(commands: Commands[Parser]) -> None:
    """`keys`, `providers`, `tenants` and `audit`, each with what can be done."""
    _add_keys(_group(commands, "keys", "show the keys of providers, and take them out of use or back"))
    _add_switches(_group(commands, "providers", "show, disable and enable providers"), "provider")
    _add_switches(_group(commands, "tenants", "show, disable and enable tenants"), "tenant")
    _add_audit(_group(commands, "audit", "check the audit trail"))


def _group(commands: Commands[Parser], name: str, purpose: str) -> Commands[Parser]:
    group = commands.add_parser(name, help=purpose, description=purpose)
    return group.add_subparsers(dest="act", required=True, metavar="act")


def _add_keys(acts: Commands[Parser]) -> None:
    for name, purpose in (
        ("list", "state, until when, why, and use of every key"),
        ("test", "one cheap read at the provider with each of the keys; their state stays as it is"),
        ("rest", "do not use a key for a time"),
        ("drain", "give a key no new requests, until it is revived or for a time"),
        ("revive", "use a key again, whatever kept it from use"),
    ):
        act = _act(acts, name, purpose)
        act.add_argument("--provider", metavar="NAME", help="only keys of this provider")
        act.add_argument("--account", metavar="NAME", help="only keys of the account of this name")
        act.add_argument("--key", metavar="NAME", required=name not in ("list", "test"), help="the key's name")
        if name == "rest":
            act.add_argument("--for", dest="for_s", type=_seconds, default=600, metavar="TIME", help="default: 10m")
        if name == "drain":
            act.add_argument("--for", dest="for_s", type=_seconds, metavar="TIME", help="90s, 10m, 2h, 1d or 1h30m")
        if name in ("rest", "drain", "revive"):
            act.add_argument("--reason", type=_one_line, metavar="TEXT", help="shown in lists and the log")


def _add_switches(acts: Commands[Parser], what: str) -> None:
    _act(acts, "list", f"every {what}, and which are disabled, since when and why")
    for name in ("disable", "enable"):
        act = _act(acts, name, f"{name} a {what}, in every running gateway within a second")
        act.add_argument("name", metavar="NAME", help=f"the {what}'s name")
        is_needed = name == "disable"
        act.add_argument("--reason", type=_one_line, required=is_needed, metavar="TEXT", help="why")


def _add_audit(acts: Commands[Parser]) -> None:
    purpose = "check that no record of the trail was changed, removed or added; 1 if one was"
    act = acts.add_parser("verify", help=purpose, description=purpose)
    where = act.add_mutually_exclusive_group(required=True)
    where.add_argument("--dir", type=Path, metavar="FOLDER", help="the trail's folder, or a copy of it")
    where.add_argument("--config", type=Path, metavar="FILE", help="the gateway's YAML configuration, which says all")
    act.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="checkpoints to hold the trail against: a sink's file, or the gateway's log; may be given again",
    )
    act.add_argument("--public-key", type=Path, metavar="FILE", help="PEM; default: the one in the trail's folder")
    act.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for programs")


def _act(acts: Commands[Parser], name: str, purpose: str) -> Parser:
    act = acts.add_parser(name, help=purpose, description=purpose)
    act.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's YAML configuration")
    act.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for programs")
    return act


def _seconds(text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"a time is written as 90s, 10m, 2h, 1d or 1h30m, not {text!r}")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))
    if not 0 < seconds <= 3650 * _SECONDS["d"]:
        raise argparse.ArgumentTypeError("a time is more than nothing and at most ten years")
    return seconds


def _one_line(text: str) -> str:
    """What a person wrote, such that it can stand in a table, a log and the store."""
    words = "".join(sign if sign.isprintable() else " " for sign in text).split()
    if not words:
        raise argparse.ArgumentTypeError("says nothing")
    return " ".join(words)[:500]
