"""Trail files as the gateway writes them, for tests of what reads them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import zstandard

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def moment(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Process:
    """One process of a replica: `write` appends a record, `rotate` seals a file and begins the next."""

    def __init__(self, folder: Path, replica: str = "r1", boot: str = "b1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = f"{replica}-{boot}"
        self._number = 0
        self._seq = 0
        self._head = "0" * 64

    @property
    def path(self) -> Path:
        return self._folder / f"{self._name}-{self._number:04}.jsonl"

    def write(self, seconds: float, kind: str, **facts: Any) -> dict[str, Any]:
        self._seq += 1
        record = {"v": 1, "seq": self._seq, "time": moment(seconds), "kind": kind, **facts, "prev": self._head}
        line = orjson.dumps(record)
        self._head = hashlib.sha256(line).hexdigest()
        with self.path.open("ab") as file:
            file.write(line[:-1] + b',"h":"%s"}\n' % self._head.encode())
        return record

    def request(self, seconds: float, request_id: str, *, took_s: float = 0.5, **facts: Any) -> None:
        """Both records of one request that went well."""
        self.started(seconds, request_id, **facts)
        more = {"status": 200, "outcome": "done", "duration_s": took_s}
        self.write(seconds + took_s, "request.finished", request_id=request_id, **(more | facts))

    def started(self, seconds: float, request_id: str, **facts: Any) -> None:
        known = {
            name: value for name, value in facts.items() if name not in ("status", "outcome", "usage", "public_id")
        }
        self.write(seconds, "request.started", request_id=request_id, **known)

    def seal(self, seconds: float) -> None:
        self.write(seconds, "file.sealed", count=self._seq)

    def rotate(self, seconds: float, *, compress: bool = False) -> None:
        self.seal(seconds)
        if compress:
            compress_file(self.path)
        self._number += 1
        self.write(seconds, "file.opened")


def compress_file(path: Path) -> None:
    path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
    path.unlink()
