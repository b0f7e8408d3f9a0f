"""Gateways that run with a trail, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gateway.audit.reading import WrittenTrail
from tests.conftest import StartVendor, Vendor, edit


@pytest.fixture
async def vendor(start_vendor: StartVendor) -> Vendor:
    return await start_vendor("openai")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def audited(folder: Path, **settings: Any) -> Callable[[dict[str, Any]], None]:
    """A change of settings that turns the trail on."""
    return edit(audit={"enabled": True, "dir": str(folder), "replica": "r", **settings})


def written(folder: Path, kind: str | None = None, **facts: Any) -> list[Mapping[str, Any]]:
    """The records so far, those of a kind and with these facts."""
    rows = [row.record for row in WrittenTrail(folder).read()]
    return [
        each
        for each in rows
        if kind in (None, each["kind"]) and all(each.get(name) == value for name, value in facts.items())
    ]


def every_byte(folder: Path) -> Iterator[bytes]:
    """Every file below a folder, with its name, and unpacked as well."""
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            yield str(path.relative_to(folder)).encode() + b"\n" + raw
            if path.suffix == ".zst":
                with (
                    path.open("rb") as file,
                    zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as unpacked,
                ):
                    yield unpacked.read()
