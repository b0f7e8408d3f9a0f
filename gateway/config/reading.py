"""From a file, or a document, to a configuration that can be used, or to all its faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.config.contradictions import contradictions
from gateway.config.demo import misnamed_vendors, settle_demo
from gateway.config.values import Source
from gateway.config.whole import Config


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has one line for each thing to mend, without any secret."""

    def __init__(self, file: str, faults: list[str]) -> None:
        super().__init__("\n".join(f"{file}: {fault}" for fault in faults))
        self.faults = faults


def load(path: Path, environ: Mapping[str, str] | None = None, *, files: set[Path] | None = None) -> Config:
    """Read and check the whole file. Raises ConfigError with every fault found. To `files` are added those that hold
    its secrets."""
    source = Source(path.parent, environ)
    try:
        return check(_read(path), source, name=str(path))
    finally:
        if files is not None:
            files |= source.files


def _read(path: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(str(path), ["is not UTF-8 text"]) from exc
    except YAMLError as exc:
        raise ConfigError(str(path), [_yaml_fault(exc)]) from exc


def check(document: Any, source: Source, *, name: str) -> Config:
    """A document as a configuration; `name` is what faults call it. Raises ConfigError with every fault found."""
    try:
        document = _without_nulls(document)
        misnamed = list(misnamed_vendors(document))
        config = Config.model_validate(settle_demo(document, source.environ), context=source)
    except ValidationError as exc:
        raise ConfigError(name, [_fault(error) for error in exc.errors(include_url=False)]) from exc
    if faults := [*misnamed, *contradictions(config)]:
        raise ConfigError(name, faults)
    return config


def _without_nulls(document: Any) -> Any:
    """A name without a value, such as a section of which every line is commented out, is as good as not written."""
    if isinstance(document, dict):
        return {name: _without_nulls(value) for name, value in document.items() if value is not None}
    return [_without_nulls(item) for item in document] if isinstance(document, list) else document


def _yaml_fault(exc: YAMLError) -> str:
    """One line, without the source text that the parser quotes: it may hold a secret."""
    if isinstance(exc, MarkedYAMLError) and exc.problem_mark:
        mark, problem = exc.problem_mark, exc.problem or "not valid YAML"
        if twice := re.match(r'found duplicate key "([^"]*)"', problem):
            problem = f"'{twice[1]}' is given twice"
        else:
            # What is quoted is a character, or else the file's own words.
            problem = re.sub(r"""(['"])(.*?)\1""", lambda quoted: quoted[0] if len(quoted[2]) <= 2 else "…", problem)
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return "not valid YAML"


_NEVER_SHOWN = frozenset({"secret", "digest", "dict_type", "list_type", "mapping_type", "model_type"})
"""Faults whose value is a secret, or may be one: it stands where a list or a section of secrets should."""


def _fault(error: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    where = where.lstrip(".").replace(".[key]", "") or "the file"
    given = error["input"]
    if error["type"] == "extra_forbidden":
        return f"{where}: no such setting"
    if error["type"] == "missing":
        return f"{where}: is missing"
    shown = ""
    if error["type"] not in _NEVER_SHOWN and isinstance(given, (str, int, float)) and not set("@?") & set(str(given)):
        shown = f" (given: {given!r})"
    return f"{where}: {error['msg']}{shown}"
