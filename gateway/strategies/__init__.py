"""Ways to choose among the ready keys of an account, one a file. A new one is one new file here that defines
`STRATEGY`; the configuration knows it by the file's name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

from gateway.strategies.strategy import Strategy


def _discover() -> Mapping[str, Callable[[], Strategy]]:
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    }
    return {name: module.STRATEGY for name, module in modules.items() if hasattr(module, "STRATEGY")}


STRATEGIES: Mapping[str, Callable[[], Strategy]] = _discover()
"""Makers of strategies by the name that the configuration uses."""
