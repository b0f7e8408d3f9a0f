"""AIML API, as its documentation describes it."""

from collections.abc import Callable
from functools import partial

from tests.simulators.base import Simulator
from tests.simulators.threads_server.dialect import AIMLAPI

VENDOR = "aimlapi"
SIMULATOR: Callable[..., Simulator] = partial(Simulator, AIMLAPI)
