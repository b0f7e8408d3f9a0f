"""The pretend model. It repeats what the user said; words in the last user message make it do more.

    call NAME              call that function; several calls are made in parallel
    call NAME {"a": 1}     … with these arguments
    again NAME             call it in a second round, when the first round's outputs are in
    fail, truncate         end so, half way through the answer

Words count only as whole words in lower case, and calls only of functions that there are.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

ENDINGS = {"fail": "failed", "truncate": "incomplete"}
VERBS = ("call", "again")
MAX_PIECES = 40


@dataclass(frozen=True)
class Plan:
    """What to do next: calls if there are any, otherwise say something."""

    calls: tuple[tuple[str, str], ...] = ()
    """Names and arguments, the latter as the text they are in JSON."""
    text: str = ""
    ending: str = "completed"
    """The status in which it leaves a run."""


def decide(prompt: str, *, functions: Collection[str], rounds: Sequence[Sequence[str]]) -> Plan:
    """`rounds` are the outputs of the rounds of calls so far."""
    if len(rounds) < len(VERBS) and (calls := read_calls(prompt, VERBS[len(rounds)], functions)):
        return Plan(calls=calls)
    outputs = [output for each in rounds for output in each]
    words = set(re.findall(r"\w+", prompt))
    return Plan(
        text=f"The tools answered: {'; '.join(outputs)}" if rounds else f"You said: {prompt}",
        ending=next((status for word, status in ENDINGS.items() if word in words), "completed"),
    )


def read_calls(prompt: str, verb: str, functions: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Arguments that are not valid JSON are taken for text, and the call gets none."""
    found = []
    for match in re.finditer(rf"\b{verb} ([\w-]+)\s*", prompt):
        if match[1] in functions:
            found.append((match[1], read_arguments(prompt[match.end() :])))
    return tuple(found)


def read_arguments(text: str) -> str:
    if not text.startswith("{"):
        return "{}"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return "{}"
    return text[:end]


def split_words(text: str) -> list[str]:
    """The text in at most MAX_PIECES pieces, at least one word each."""
    words = re.findall(r"\s*\S+\s*", text) or [text]
    size = -(-len(words) // MAX_PIECES)
    return ["".join(words[start : start + size]) for start in range(0, len(words), size)]
