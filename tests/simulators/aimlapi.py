"""AIML API, as its documentation describes it."""

from collections.abc import Callable
from functools import partial

from gateway.demo.dialect import AIMLAPI
from tests.simulators.base import Simulator

VENDOR = "aimlapi"
SIMULATOR: Callable[..., Simulator] = partial(Simulator, AIMLAPI)
