"""The command line: what it prints and with which code it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway import __version__, config
from gateway.cli import _greeting, main
from gateway.config.values import Section

SMALL = """
providers: {main: {vendor: openai, accounts: {acme: {keys: {one: "${ONE}"}}, bolt: {keys: {two: "file:two"}}}}}
tenants: {alice: {keys: ["file:alice"]}}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good configuration, and its secrets around it."""
    monkeypatch.setenv("ONE", "sk-planted-one")
    (tmp_path / "two").write_text("sk-planted-two")
    (tmp_path / "alice").write_text("planted-alice")
    path = tmp_path / "gateway.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def schema() -> Any:
    """What `config-schema` prints, as another program gets it."""
    ended = subprocess.run([sys.executable, "-m", "gateway.cli", "config-schema"], capture_output=True, check=True)
    assert ended.stderr == b""
    return json.loads(ended.stdout)


def test_a_good_configuration_is_called_good(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(written)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{written}: good. 1 providers, 2 accounts, 1 tenants.\n"
    assert printed.err == ""


@pytest.mark.parametrize("command", ["check", "serve"])
def test_every_fault_is_told_on_standard_error(command: str, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written.write_text(SMALL.replace("openai", "opnai") + "listener: {prot: 1}\nsigning_keys: [planted]\n")
    assert main([command, "--config", str(written)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 3
    assert all(line.startswith(f"{written}: ") for line in printed.err.splitlines())
    assert "planted" not in printed.err


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "nowhere.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'nowhere.yaml'}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("arguments", [[], ["check"], ["serve"], ["dance"], ["check", "--confg", "x"], ["--port", "1"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: threads-gateway" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "printed"), [("--version", f"threads-gateway {__version__}\n"), ("--help", "usage: threads-gateway")]
)
def test_version_and_help_end_with_0(argument: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(printed)


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).parent / "threads-gateway"
    ended = subprocess.run([script, "--version"], capture_output=True, check=True, text=True)
    assert ended.stdout == f"threads-gateway {__version__}\n"


@pytest.mark.parametrize("model", Section.__subclasses__(), ids=lambda model: model.__name__)
def test_the_schema_has_every_setting(model: type[BaseModel], schema: Any) -> None:
    section = schema if model is config.Config else schema["$defs"][model.__name__]
    assert set(section["properties"]) == set(model.model_fields)
    assert section["additionalProperties"] is False
    assert set(section.get("required", [])) == {
        name for name, field in model.model_fields.items() if field.is_required()
    }


def _subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all in it, by the places where JSON Schema has schemas."""
    assert isinstance(schema, dict)
    yield schema
    for name in ("$defs", "properties"):
        for inner in schema.get(name, {}).values():
            yield from _subschemas(inner)
    for inner in [*schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("oneOf", [])]:
        yield from _subschemas(inner)
    for name in ("items", "additionalProperties", "propertyNames"):
        if not isinstance(schema.get(name, False), bool):
            yield from _subschemas(schema[name])


def test_the_schema_is_json_schema(schema: Any) -> None:
    """As far as that can be told without a validator: known words, types that exist, references that lead somewhere."""
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    types = {"array", "boolean", "integer", "null", "number", "object", "string"}
    words = (
        "$schema $defs $ref additionalProperties anyOf const default description enum exclusiveMinimum "
        "exclusiveMaximum format items maxItems maxLength maximum minItems minLength minProperties minimum pattern "
        "properties propertyNames required title type"
    )
    for inner in _subschemas(schema):
        assert set(inner) <= set(words.split())
        assert inner.get("type", "object") in types
        assert "$ref" not in inner or inner["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        assert re.compile(inner.get("pattern", ""))
        assert set(inner.get("required", [])) <= set(inner.get("properties", []))


def test_an_editor_takes_both_ways_to_write_a_key(schema: Any) -> None:
    section, reference = schema["$defs"]["Account"]["properties"]["keys"]["additionalProperties"]["anyOf"]
    assert section == {"$ref": "#/$defs/Key"}
    for written, is_good in [("${NAME}", True), ("file:keys/one", True), ("sk-planted", False), ("x${NAME}", False)]:
        assert bool(re.search(reference["pattern"], written)) == is_good


DEMO = Path(config.__file__).parents[2] / "config" / "demo.yaml"


@pytest.mark.parametrize(
    ("environ", "words", "model"),
    [
        ({}, "OPENAI_API_KEY or AIMLAPI_KEY or ANTHROPIC_API_KEY or GEMINI_API_KEY in the environment", "echo"),
        ({"ANTHROPIC_API_KEY": "planted"}, "anthropic answers, because ANTHROPIC_API_KEY is in", "claude-haiku-5-5"),
        ({"GEMINI_API_KEY": "planted"}, "gemini answers, because GEMINI_API_KEY is", "gemini-3.8-flash"),
        ({"AIMLAPI_KEY": "planted"}, "aimlapi answers, because AIMLAPI_KEY is in the environment", "gpt-4o-mini"),
        (
            {"AIMLAPI_KEY": "planted", "OPENAI_API_KEY": "planted2"},
            "openai answers, because OPENAI_API_KEY",
            "gpt-4o-mini",
        ),
    ],
)
def test_the_greeting_says_who_answers(serving: None, environ: dict[str, str], words: str, model: str) -> None:
    """And never a vendor's key."""
    greeting = _greeting(config.load(DEMO, environ), "http://127.0.0.1:8080")
    assert words in greeting
    assert f'model="{model}"' in greeting
    assert ("http://127.0.0.1:8080/providers/demo/v1" in greeting) is bool(environ)
    assert "planted" not in greeting
