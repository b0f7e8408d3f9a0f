"""Documents that cannot drift: what README and the commented example say is held against the code."""

from __future__ import annotations

import re
import shlex
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import orjson
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway import cli, telemetry
from gateway.config import Config, load
from gateway.operations import OPERATIONS
from gateway.phases.rewrite_in import CROSSING_TO_CALLER
from gateway.phases.rewrite_out import CROSSING_TO_PROVIDER
from gateway.vendors import VENDORS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / "config" / "gateway.yaml").read_text()

ENVIRONMENT = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)\}", EXAMPLE), "")


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Every section of the configuration by class name."""
    found = {model.__name__: model}
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= sections(part)
    return found


def parts(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType, dict, list) or get_args(annotation):
        return [leaf for inner in get_args(annotation) for leaf in parts(inner)]
    return [annotation]


SETTINGS = [
    (section, name, field.get_default(call_default_factory=True, validated_data={}))
    for section, model in sections(Config).items()
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize(("section", "name", "default"), SETTINGS, ids=lambda value: str(value)[:20])
def test_the_example_shows_every_setting_with_its_default(section: str, name: str, default: Any) -> None:
    """A commented-out line `# name: value` shows the default, where that is a plain value."""
    lines = re.findall(rf"^ *(#? *){name}:(?: (\S+))?", EXAMPLE, flags=re.MULTILINE)
    assert lines, f"{section}.{name} is not in config/gateway.yaml"
    if isinstance(default, bool | int | float | str) and default is not PydanticUndefined:
        shown = (
            str(default).lower()
            if isinstance(default, bool)
            else f"{default:g}"
            if isinstance(default, float)
            else str(default)
        )
        assert any(value == shown for _, value in lines), f"{section}.{name}: the default {shown} is not shown"


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    environ = {name: f"{name}-with-at-least-16-characters" for name in ENVIRONMENT}
    (tmp_path / "gateway.yaml").write_text(EXAMPLE.replace("file:/run/secrets/", "file:"))
    (tmp_path / "openai-key-b").write_text("another secret")
    assert set(load(tmp_path / "gateway.yaml", environ).providers) == {"openai", "aiml"}


def test_the_example_is_good_with_every_comment_taken_away(tmp_path: Path) -> None:
    """Whoever takes a `#` away gets a setting, not a syntax error. What names a file, or is for another vendor than
    the one it stands at, stays commented."""
    environ = {name: f"{name}-with-at-least-16-characters" for name in ENVIRONMENT}
    stays_commented = r"(?!ca_file|client_cert|tls|  certificate|  private_key|options|api_version|signing_key:)"
    prose, start, settings = EXAMPLE.partition("# --- providers")
    text = prose + start + re.sub(rf"^( *)# ({stays_commented} *[a-z_]+:)", r"\1\2", settings, flags=re.MULTILINE)
    text = text.replace("file:/run/secrets/", "file:").replace("raw_ids: false", "raw_ids: true")
    (tmp_path / "gateway.yaml").write_text(text.replace("provider: demo ", "provider: aiml "))
    (tmp_path / "openai-key-b").write_text("another secret")
    config = load(tmp_path / "gateway.yaml", environ)
    assert config.providers["openai"].accounts["research"].raw_ids
    assert config.demo is not None


def test_the_schema_file_is_what_the_command_prints(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Run `threads-gateway config-schema > config/schema.json` after changing a setting."""
    assert cli.main(["config-schema"]) == 0
    printed = capfdbinary.readouterr().out
    assert orjson.loads(printed) == orjson.loads((ROOT / "config" / "schema.json").read_bytes())


@pytest.mark.parametrize("event", telemetry.EVENTS)
def test_the_readme_lists_every_event_with_its_meaning(event: str) -> None:
    assert f"| `{event}` | {telemetry.EVENTS[event]} |" in README


def test_the_readme_lists_no_event_that_does_not_exist() -> None:
    table = README.partition("## Log events")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)`", table, flags=re.MULTILINE)) == set(telemetry.EVENTS)


@pytest.mark.parametrize(
    "command",
    [
        *(f"keys {act}" for act in ("list", "test", "rest", "drain", "revive")),
        "shared list",
        "tenants create",
        "tenants erase",
        *(f"tenant-keys {act}" for act in ("create", "list", "revoke")),
        *(f"{what} {act}" for what in ("providers", "tenants") for act in ("list", "disable", "enable")),
        "tenants usage",
        "audit verify",
        *(f"audit {act}" for act in ("tail", "search", "show", "thread", "stats", "export", "sql", "hash")),
    ],
)
def test_the_readme_shows_every_command_of_operators_as_it_is_taken(command: str) -> None:
    (line,) = re.findall(rf"^threads-gateway {command}.*?(?= *#|$)", README, flags=re.MULTILINE)
    given = cli._parser().parse_args(shlex.split(line)[1:])
    assert f"{given.command} {given.act}" == command


@pytest.mark.parametrize("header", [*CROSSING_TO_PROVIDER, *CROSSING_TO_CALLER])
def test_the_readme_lists_every_header_that_crosses(header: str) -> None:
    assert f"`{header.lower()}`" in README.partition("## What crosses")[2].partition("\n## ")[0]


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_readme_and_the_example_name_every_vendor(vendor: str) -> None:
    assert f"`{vendor}`" in README
    assert vendor in EXAMPLE


def test_the_readme_says_how_many_operations_there_are() -> None:
    assert f"{len(OPERATIONS)} operations" in README


def test_the_readme_has_every_file_of_the_gateway_in_its_tree() -> None:
    """One line a file, so that a stranger finds the place of a change."""
    tree = README.partition("## The tree")[2].partition("\n## ")[0]
    files = [path for path in (ROOT / "gateway").rglob("*.py") if "demo" not in path.parts]
    missing = [str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py" and path.name not in tree]
    assert not missing


def test_the_readme_names_no_file_that_does_not_exist() -> None:
    tree = README.partition("## The tree")[2].partition("\n## ")[0]
    names = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    assert [name for name in re.findall(r"[a-z0-9_]+\.(?:py|yaml|json|lock)\b", tree) if name not in names] == []
