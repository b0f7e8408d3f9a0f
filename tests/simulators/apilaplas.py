"""Apilaplas, whose documentation is AIML API's under another host."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.simulators.base import Simulator
from tests.simulators.threads_server.dialect import AIMLAPI

VENDOR = "apilaplas"
SIMULATOR: Callable[..., Simulator] = partial(Simulator, replace(AIMLAPI, name=VENDOR))
