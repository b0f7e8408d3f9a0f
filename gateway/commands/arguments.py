"""The command line of the operators' commands. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
import re
import time
from datetime import date, datetime
from pathlib import Path

from gateway.config import Allowance

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TENANT_NAME_SIGNS = 47
"""Its id is longer by 17 and must be good for `id` in the configuration."""
_DURATION = re.compile(r"(?:\d+[smhd])+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

BY = ("tenant", "provider", "model", "day")
"""What usage can be told apart by."""

Commands = argparse._SubParsersAction  # it has no public name
Parser = argparse.ArgumentParser


def add_commands(commands: Commands[Parser]) -> None:
    """`keys`, `providers`, `tenants`, `tenant-keys`, `shared` and `audit`, each with what can be done."""
    _add_keys(_group(commands, "keys", "show the keys of providers, and take them out of use or back"))
    _add_switches(_group(commands, "providers", "show, disable and enable providers"), "provider")
    tenants = _group(commands, "tenants", "show, make, disable, enable and erase tenants, and what they used")
    _add_switches(tenants, "tenant")
    _add_create_tenant(tenants)
    _add_erase_tenant(tenants)
    _add_usage(tenants)
    _add_tenant_keys(_group(commands, "tenant-keys", "issue, show and revoke the keys that tenants call with"))
    shared = _group(commands, "shared", "show the objects that tenants have in common")
    _act(shared, "list", "every object that is shared, with whom, and under which public id each tenant has it")
    audit = _group(commands, "audit", "check and ask the audit trail; it needs no gateway that runs")
    _add_verify(audit)
    _add_questions(audit)


def _group(commands: Commands[Parser], name: str, purpose: str) -> Commands[Parser]:
    """A command of several acts. The module that carries them out is called as the command is, and an act may have
    another."""
    group = commands.add_parser(name, help=purpose, description=purpose)
    group.set_defaults(module=name.replace("-", "_"))
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


def _add_usage(acts: Commands[Parser]) -> None:
    act = _act(acts, "usage", "requests, errors, runs, tokens and cost")
    act.set_defaults(module="usage")
    act.add_argument("--tenant", metavar="NAME", help="only this tenant; the id of one that is gone from the file")
    act.add_argument("--since", type=_date, metavar="DATE", help="default: the first of this month, UTC")
    act.add_argument("--until", type=_date, metavar="DATE", help="the last day; default: today, UTC")
    act.add_argument("--by", type=_columns, default=BY, metavar="COLUMNS", help=f"default: {','.join(BY)}")


def _add_create_tenant(acts: Commands[Parser]) -> None:
    act = _act(acts, "create", "make a tenant, in every running gateway within a second; it is never removed")
    act.add_argument("name", metavar="NAME", type=_tenant_name, help="the tenant's name")
    act.add_argument("--provider", action="append", metavar="NAME", help="it may use only these; default: all")
    act.add_argument("--default-provider", metavar="NAME", help="for requests that name none and carry no id")
    _add_limits(act, "all its keys together")


def _add_erase_tenant(acts: Commands[Parser]) -> None:
    act = _act(acts, "erase", "remove what is kept of a tenant, for ever; its name and id are not given again")
    act.set_defaults(module="erase_tenant")
    act.add_argument("name", metavar="NAME", type=_name, help="its name, or its id")
    act.add_argument("--yes", action="store_true", help="also if it is not disabled, or gone from the configuration")
    act.add_argument("--usage", action="store_true", help="what it used, too, which may still have to be billed")
    act.add_argument("--reason", type=_one_line, metavar="TEXT", help="shown in lists and the log")


def _add_tenant_keys(acts: Commands[Parser]) -> None:
    act = _act(acts, "create", "issue a key and show it, this once")
    act.add_argument("tenant", metavar="TENANT", help="the tenant's name")
    act.add_argument("--name", type=_name, metavar="NAME", help="what lists and the log call the key")
    until = act.add_mutually_exclusive_group()
    until.add_argument("--expires-at", type=_moment, metavar="T", help="2027-01-01T00:00:00Z; default: never")
    until.add_argument("--expires-in", type=_seconds, metavar="TIME", help="90d, 12h …")
    act.add_argument("--read-only", action="store_true", help="only GET")
    act.add_argument("--no-delete", action="store_true", help="no DELETE")
    act.add_argument("--operation", action="append", metavar="GLOB", help="only such operations: 'get_*', create_run …")
    act.add_argument("--provider", action="append", metavar="NAME", help="only these of the tenant's providers")
    act.add_argument(
        "--model", action="append", type=_one_line, metavar="NAME", help="only assistants and runs of these"
    )
    _add_limits(act, "this key")
    listing = _act(acts, "list", "every key, what it may be used for, and until when")
    revoke = _act(acts, "revoke", "refuse a key, in every running gateway within a second")
    revoke.add_argument("key", metavar="KEY", help="its fingerprint, or its name")
    revoke.add_argument("--reason", type=_one_line, required=True, metavar="TEXT", help="why")
    for each in (listing, revoke):
        each.add_argument("--tenant", metavar="NAME", help="only keys of this tenant")


def _add_limits(act: Parser, whose: str) -> None:
    for name, field in Allowance.model_fields.items():
        purpose = f"{field.description} Of {whose}.".replace("%", "%%")
        act.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=purpose)


def allowance_of(given: argparse.Namespace) -> Allowance:
    """What the options of `_add_limits` say."""
    return Allowance(**{name: getattr(given, name) for name in Allowance.model_fields})


def _add_verify(acts: Commands[Parser]) -> None:
    purpose = "check that no record of the trail was changed, removed or added; 1 if one was"
    act = acts.add_parser("verify", help=purpose, description=purpose)
    act.set_defaults(module="audit_verify")
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


def _add_questions(acts: Commands[Parser]) -> None:
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
        act.set_defaults(module="audit")
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
    acts.choices["tail"].add_argument("-n", "--lines", type=_lines, default=20, metavar="N", help="default: 20")
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


def _lines(text: str) -> int:
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


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"a date is written as 2026-11-22, not {text!r}") from exc


def _columns(text: str) -> tuple[str, ...]:
    """Those that are named, in the order of the table."""
    named = set(text.split(","))
    if not named <= set(BY):
        raise argparse.ArgumentTypeError(f"takes some of {','.join(BY)}")
    return tuple(name for name in BY if name in named)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a limit is a whole number above 0, not {text!r}")
    return int(text)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name has letters, digits, '.', '_' and '-', at most 64")
    return text


def _tenant_name(text: str) -> str:
    if len(text) > _TENANT_NAME_SIGNS:
        raise argparse.ArgumentTypeError(f"a tenant's name has at most {_TENANT_NAME_SIGNS} characters")
    return _name(text)


def _moment(text: str) -> float:
    """Seconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"a moment is written as 2027-01-01T00:00:00Z, not {text!r}") from exc
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a moment has a time zone: 2027-01-01T00:00:00Z")
    if moment.timestamp() <= time.time():
        raise argparse.ArgumentTypeError(f"{text} is over")
    return moment.timestamp()


def _one_line(text: str) -> str:
    """What a person wrote, such that it can stand in a table, a log and the store."""
    words = "".join(sign if sign.isprintable() else " " for sign in text).split()
    if not words:
        raise argparse.ArgumentTypeError("says nothing")
    return " ".join(words)[:500]
