"""Model APIs: how a generation is asked of each and how its stream is read. A new one is one new file here that
defines `DIALECTS`; nothing else needs to know of it, and the configuration knows it by the file's name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from gateway.engine.models.model_api import ModelApi


def _discover() -> Mapping[str, Mapping[str, ModelApi]]:
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    }
    return {name: module.DIALECTS for name, module in modules.items() if hasattr(module, "DIALECTS")}


MODEL_APIS: Mapping[str, Mapping[str, ModelApi]] = _discover()
"""Model API by the name of its file → dialect by its name → how that dialect is spoken."""
