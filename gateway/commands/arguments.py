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
    _add_audit(_group(commands, "audit", "ask the audit trail; it needs no gateway that runs"))


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
    for name, purpose in (
        ("tail", "the newest records, and those to come"),
        ("search", "the records that meet all conditions; 1 if there are none"),
        ("show", "all records of one request"),
        ("thread", "the story of one thread, over all replicas"),
        ("stats", "requests, errors, tokens and bytes by day, tenant and provider"),
        ("export", "records for other programs"),
        ("sql", "ask DuckDB; the records are the table `records` (needs the extra `sql`)"),
        ("hash", "how a value stands where it was redacted"),
    ):
        act = acts.add_parser(name, help=purpose, description=purpose)
        where = act.add_mutually_exclusive_group(required=True)
        where.add_argument("--config", type=Path, metavar="FILE", help="the gateway's YAML configuration")
        where.add_argument("--dir", type=Path, metavar="DIR", help="the trail's folder, in place of a configuration")
        act.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for programs")
        if name in ("tail", "search", "export"):
            _add_conditions(act)
        if name in ("search", "export", "stats"):
            act.add_argument(
                "--since", metavar="TIME", help="2026-11-22, 2026-11-22T03:14 (UTC), or 90s, 10m, 2h, 7d ago"
            )
            act.add_argument("--until", metavar="TIME", help="up to and without this moment")
    for name in ("--tenant", "--provider"):
        acts.choices["stats"].add_argument(name, metavar="NAME")
    acts.choices["tail"].add_argument("-f", "--follow", action="store_true", help="go on, until Ctrl-C")
    acts.choices["tail"].add_argument("-n", "--lines", type=_count, default=20, metavar="N", help="default: 20")
    acts.choices["show"].add_argument("request", metavar="REQUEST_ID", help="the gateway's, or the caller's own")
    acts.choices["show"].add_argument("--content", action="store_true", help="and the bodies that were kept")
    acts.choices["thread"].add_argument("id", metavar="PUBLIC_ID")
    acts.choices["export"].add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl")
    acts.choices["export"].add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    acts.choices["sql"].add_argument("query", metavar="QUERY")
    value = acts.choices["hash"].add_mutually_exclusive_group(required=True)
    value.add_argument("value", nargs="?", metavar="VALUE", help="- reads it from standard input")
    value.add_argument("--file", type=Path, metavar="FILE", help="the contents of a file, as its `digest` has it")
    acts.choices["hash"].add_argument("--field", metavar="NAME", help="how it stands in this fact, which may be clear")


def _add_conditions(act: Parser) -> None:
    for name, purpose in (
        ("--tenant", "the tenant's name"),
        ("--thread", "a public or upstream id of a thread, or of anything else"),
        ("--operation", "as in the log; * for any characters"),
        ("--provider", "its name; * for any characters"),
        ("--status", "404, or 5xx"),
        ("--text", "what stands anywhere in a record"),
    ):
        act.add_argument(name, metavar=name[2:].upper(), help=purpose)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"from 1 to 100000, not {text!r}")
    return int(text)


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
