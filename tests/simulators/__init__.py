"""Stand-ins for the vendors, one module each.

A vendor's module has `VENDOR`, the name of its dialect, and `SIMULATOR`, which makes a simulator of it.
Vendors that have no Threads, only a model API, are in the module of that API, with `MODELS`: makers by name.
`asking` asks such a model as the engine does; `answers` is what it says, in no vendor's words; `model_simulator` is
what all of them have in common. `threads_server` is what vendors with Threads have behind them, `base` has the
simulator and its journal, `faults` the ways in which it can be told to fail.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulators.base import Simulator


def find_vendors() -> dict[str, Callable[..., Simulator]]:
    """The makers of simulators by vendor name, discovered rather than listed."""
    return {module.VENDOR: module.SIMULATOR for module in _modules() if hasattr(module, "SIMULATOR")}


def find_models() -> dict[str, Callable[..., Simulator]]:
    """The makers of simulators of vendors over which threads are served."""
    found = (module.MODELS for module in _modules() if hasattr(module, "MODELS"))
    return {name: maker for models in found for name, maker in models.items()}


def _modules() -> list[ModuleType]:
    found = [each.name for each in pkgutil.iter_modules(__path__)]
    names = [name for name in found if not name.startswith(("test_", "conftest"))]
    return [importlib.import_module(f"{__name__}.{name}") for name in names]
