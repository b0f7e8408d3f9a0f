"""The section that lets the gateway be tried without any account, and how a document is settled by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.config.values import Name, Section


class DemoVendor(Section):
    """A provider that is there only while the environment has its key. It is configured like any other; without the key
    it is as if it were not written."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The name of its key in the environment."""
    model: str
    """One of its models, to show in the greeting."""


class Demo(Section):
    """Run the bundled echo model, so that the gateway can be tried without any account."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """Port of the echo model on 127.0.0.1."""
    provider: Name = "demo"
    """The provider it stands in for; it accepts that provider's keys."""
    vendors: Mapping[Name, DemoVendor] = Field(default_factory=dict)
    """Provider → real vendor to use as soon as there is a key. The first that has one, else the echo model, is the
    default of tenants that say neither `default_provider` nor `providers`."""
    tenant_key: str | None = None
    """A tenant's key to show in the greeting. It is public, which is why it may stand here."""


def settle_demo(document: Any, environ: Mapping[str, str]) -> Any:
    """The document without the providers of demo vendors that have no key, and with the default that follows. What is
    not of the right form is left for the check of the whole."""
    demo = _section(document, "demo")
    listed = _section(demo, "vendors")
    providers, tenants = _section(document, "providers"), _section(document, "tenants")
    if not listed or not providers or not tenants:
        return document
    ready = [name for name in listed if environ.get(str(_section(listed, name).get("key"))) and name in providers]
    default = ready[0] if ready else demo.get("provider", "demo")
    return document | {
        "providers": {name: each for name, each in providers.items() if name in ready or name not in listed},
        "tenants": {
            name: {"default_provider": default, **each} if isinstance(each, dict) and "providers" not in each else each
            for name, each in tenants.items()
        },
    }


def misnamed_vendors(document: Any) -> Iterator[str]:
    """Looked for before those without a key are taken away."""
    for name in _section(_section(document, "demo"), "vendors"):
        if name not in _section(document, "providers"):
            yield f"demo.vendors.{name}: no provider is named {name}"


def _section(document: Any, name: str) -> dict[str, Any]:
    section = document.get(name) if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}
