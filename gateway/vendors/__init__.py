"""Dialects: how each kind of endpoint speaks. A new vendor is one new file here that defines `VENDOR`; nothing else
needs to know of it. The reference, and the default for everything a file does not say, is OpenAI v2."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from gateway.vendors.vendor import Vendor


def _discover() -> Mapping[str, Vendor]:
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    dialects = [module.VENDOR for module in modules if hasattr(module, "VENDOR")]
    return {dialect.name: dialect for dialect in dialects}


VENDORS: Mapping[str, Vendor] = _discover()
"""Vendors by the name that the configuration uses."""
