"""What a dialect may differ in, with OpenAI v2 as the default of everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gateway.credentials import Present, bearer
from gateway.operations import Version


def assistants_v2(others: tuple[str, ...]) -> str | None:
    """The beta header of the reference: always v2, and what else the caller asked for."""
    return ",".join(("assistants=v2", *others))


def as_it_is(answer: dict[str, Any]) -> None:
    """Nothing to mend."""


@dataclass(frozen=True)
class Vendor:
    """One dialect: data, and the few functions in which it differs from OpenAI v2."""

    name: str
    """How the configuration calls it."""
    base_url: str | None = None
    """Where the vendor's API begins; None where every installation has its own address."""
    has_threads: bool = True
    """Whether there are threads to forward to. Where not, a provider of this vendor serves them (`serve: threads`)."""
    present: Present = bearer
    """How a key is presented."""
    required_options: frozenset[str] = frozenset()
    """What an account's `options` must say."""
    allowed_options: frozenset[str] = frozenset()
    """What they may say besides."""
    needs: tuple[str, str] | None = None
    """A package that only this vendor needs, and the extra of ours that brings it."""
    api_version: str | None = None
    """Sent as `api-version` with every call about threads, unless the provider's own setting says another; None: the
    vendor has none. Where threads are served only what the setting says is sent."""
    organization_header: str | None = None
    """Header for an account's `organization`."""
    project_header: str | None = None
    """Header for an account's `project`."""
    protocol: Version = "v2"
    """The version of the protocol it speaks."""
    beta_header: Callable[[tuple[str, ...]], str | None] = assistants_v2
    """The caller's other `OpenAI-Beta` values → the header to send, or None for none."""
    lists_tell_more: bool = True
    """Lists come with `has_more`. Where they do not, one item more than asked for is requested, to find out."""
    rate_limits_belong_to: Literal["key", "account"] = "account"
    """Whether another key of the same account helps after a 429."""
    mend: Callable[[dict[str, Any]], None] = as_it_is
    """Bring one answered object to the reference's shape, in place; objects of lists and streams too."""
