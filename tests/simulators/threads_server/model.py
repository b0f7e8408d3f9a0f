"""The pretend model of vendors that have Threads: the echo model, `gateway.demo.model`, and what only they can do.

    plot      with code_interpreter: run code, answer with an image and a file
    search    with file_search: search the stores, answer with a citation
    expire    end the run so, half way through the message

Words count only as whole words in lower case, and only when the run has the tool.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.demo import model


@dataclass(frozen=True)
class Plan(model.Plan):
    """`ending` may be `expired` too."""

    plots: bool = False
    searches: bool = False


def decide(prompt: str, *, tools: Collection[str], functions: Collection[str], rounds: Sequence[Sequence[str]]) -> Plan:
    """`rounds` are the outputs of the rounds of calls so far."""
    plan = model.decide(prompt, functions=functions, rounds=rounds)
    if plan.calls:
        return Plan(plan.calls)
    words = set(re.findall(r"\w+", prompt))
    return Plan(
        text=plan.text,
        ending="expired" if plan.ending == "completed" and "expire" in words else plan.ending,
        plots="plot" in words and "code_interpreter" in tools,
        searches="search" in words and "file_search" in tools,
    )
