"""A vendor that has no Threads, only a model: what the simulators of all model APIs have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.demo import echo
from tests.simulators.answers import Answer, of_plan
from tests.simulators.base import Simulator
from tests.simulators.threads_server.ask import read_json
from tests.simulators.threads_server.refusal import Json

Say = Answer | Callable[[Json], Answer]
"""An answer, or what makes one of the request's body."""


@dataclass(eq=False)
class ModelSimulator(Simulator):
    """What no script says is answered as the echo model would (`gateway.demo.model` has the words)."""

    _script: deque[Say] = field(default_factory=deque, init=False)

    def script(self, *answers: Say) -> None:
        """Answer the next requests so, in this order, whoever asks. Those that are refused use nothing up."""
        self._script.extend(answers)

    def next_answer(self, body: Json, asked: echo.Asked) -> Answer:
        """To a request that is in order: `body` as it came, `asked` what the echo model makes of it."""
        said = self._script.popleft() if self._script else of_plan(echo.answer(asked))
        return said if isinstance(said, Answer) else said(body)

    @abstractmethod
    def is_generation(self, path: str) -> bool:
        """Whether a request with this path asks the model for an answer."""

    @property
    def bodies(self) -> list[Json]:
        """Of all generations that were asked for, in order."""
        return [read_json(each.body) for each in self.journal if self.is_generation(each.path)]
