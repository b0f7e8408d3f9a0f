"""Apilaplas, whose documentation is AIML API's under another host."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway.demo.dialect import AIMLAPI
from tests.simulators.base import Simulator

VENDOR = "apilaplas"
SIMULATOR: Callable[..., Simulator] = partial(Simulator, replace(AIMLAPI, name=VENDOR))
