"""Calls of tools that a vendor runs, put together from their deltas in the shape of Threads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.engine.container_files import with_one_id

Json = dict[str, Any]


@dataclass(eq=False)
class HostedCalling:
    """One call as far as it was told. `place` is where it stands in its step."""

    id: str
    type: str
    place: int
    _said: Json = field(default_factory=dict)

    def take(self, delta: Mapping[str, Any]) -> Json:
        """Add what a delta says (`HostedCall.delta`). What is told of it: the same, with one id for each file."""
        told = dict(delta)
        if "outputs" in told:
            told["outputs"] = [_with_file(output) for output in told["outputs"]]
        for name, value in told.items():
            if name == "input":
                self._said["input"] = self._said.get("input", "") + value
            elif name == "outputs":
                for output in value:
                    self._add_output(output)
            else:
                self._said[name] = value
        return told

    def _add_output(self, output: Json) -> None:
        outputs = self._said.setdefault("outputs", {})
        known = outputs.setdefault(output["index"], {"type": output["type"]})
        for name, value in output.items():
            if name == "logs":
                known["logs"] = known.get("logs", "") + value
            elif name != "index":
                known[name] = value

    def as_object(self) -> Json:
        """The call as a step has it."""
        said = dict(self._said)
        if self.type == "code_interpreter":
            outputs = said.get("outputs", {})
            said = {**said, "input": said.get("input", ""), "outputs": [outputs[index] for index in sorted(outputs)]}
        return {"id": self.id, "type": self.type, self.type: said}


def beginning(kind: str) -> Json:
    """What the first delta of a call has before anything is said, as recorded."""
    return {"input": "", "outputs": []} if kind == "code_interpreter" else {}


def _with_file(output: Json) -> Json:
    return {**output, "image": with_one_id(output["image"])} if output.get("type") == "image" else output


def without_contents(call: Json) -> Json:
    """A call of a step or of its delta without the contents of what was found, which are shown to who asks for them."""
    search = call.get("file_search")
    if type(search) is not dict or not search.get("results"):
        return call
    results = [{name: value for name, value in each.items() if name != "content"} for each in search["results"]]
    return {**call, "file_search": {**search, "results": results}}
