"""Dialects: each file is found, and says what its vendor's documentation says."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from dataclasses import fields
from typing import Any

import pytest
from pydantic import HttpUrl, TypeAdapter

from gateway import vendors
from gateway.vendors import VENDORS
from gateway.vendors.vendor import Vendor

FILES = sorted(found.name for found in pkgutil.iter_modules(vendors.__path__) if found.name != "vendor")

BEARER = {"Authorization": "Bearer a-key"}
NO_BETA_HEADER_NEEDED: dict[tuple[str, ...], str | None] = {(): None, ("files=v3",): "files=v3", ("a", "b"): "a,b"}
ALWAYS_V2: dict[tuple[str, ...], str | None] = {
    (): "assistants=v2",
    ("files=v3",): "assistants=v2,files=v3",
    ("a", "b"): "assistants=v2,a,b",
}
NULL_BECOMES_EMPTY: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"metadata": None}, {"metadata": {}}),
    ({"metadata": {"a": "1"}}, {"metadata": {"a": "1"}}),
    ({"id": "x"}, {"id": "x"}),
    ({"metadata": [], "tool_resources": None}, {"metadata": [], "tool_resources": None}),
]
NOTHING_CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [({"metadata": None}, {"metadata": None}), ({}, {})]

DOCUMENTED: dict[str, dict[str, Any]] = {
    "openai": {
        "base_url": "https://api.openai.com/v1",
        "has_threads": True,
        "organization_header": "OpenAI-Organization",
        "project_header": "OpenAI-Project",
        "lists_tell_more": True,
        "rate_limits_belong_to": "account",  # of a project and model
        "present": BEARER,
        "required_options": frozenset(),
        "allowed_options": frozenset(),
        "api_version": None,
        "needs": None,
        "protocol": "v2",
        "beta_header": ALWAYS_V2,
        "mend": NOTHING_CHANGES,
    },
    "aimlapi": {
        "base_url": "https://api.aimlapi.com",  # the documented paths have no /v1
        "has_threads": True,
        "organization_header": None,
        "project_header": None,
        "lists_tell_more": False,  # bare arrays
        "rate_limits_belong_to": "key",
        "present": BEARER,
        "required_options": frozenset(),
        "allowed_options": frozenset(),
        "api_version": None,
        "needs": None,
        "protocol": "v2",
        "beta_header": NO_BETA_HEADER_NEEDED,
        "mend": NULL_BECOMES_EMPTY,
    },
}
DOCUMENTED["openai_v1"] = DOCUMENTED["openai"] | {
    "base_url": None,  # OpenAI's own is gone
    "protocol": "v1",
    "beta_header": {(): "assistants=v1", ("a", "b"): "assistants=v1,a,b"},
}
DOCUMENTED["azure"] = DOCUMENTED["openai"] | {
    "base_url": None,  # every resource has its own
    "organization_header": None,
    "project_header": None,
    "present": {"api-key": "a-key"},
    "api_version": "2024-05-01-preview",
    "beta_header": NO_BETA_HEADER_NEEDED,
}
DOCUMENTED["foundry"] = DOCUMENTED["azure"] | {
    "present": None,  # a token that is fetched: see test_foundry.py
    "required_options": frozenset({"tenant_id", "client_id"}),
    "allowed_options": frozenset({"authority", "scope", "ca_file"}),
    "api_version": "v1",
    "needs": ("azure.identity", "foundry"),
}
DOCUMENTED["anthropic"] = DOCUMENTED["openai"] | {
    "base_url": "https://api.anthropic.com/v1",
    "has_threads": False,
    "organization_header": None,
    "project_header": None,
    "present": {"x-api-key": "a-key", "anthropic-version": "2023-06-01"},  # the version is wanted by every path
}
DOCUMENTED["gemini"] = DOCUMENTED["openai"] | {
    "base_url": "https://generativelanguage.googleapis.com/v1beta",
    "has_threads": False,
    "organization_header": None,
    "project_header": None,
    "present": {"x-goog-api-key": "a-key"},
    "rate_limits_belong_to": "account",  # per project, not per API key
}
DOCUMENTED["apilaplas"] = DOCUMENTED["aimlapi"] | {"base_url": "https://api.apilaplas.com"}  # the same documentation


def test_every_file_is_a_vendor_under_its_own_name() -> None:
    assert sorted(VENDORS) == FILES
    for name in FILES:
        assert importlib.import_module(f"gateway.vendors.{name}").VENDOR is VENDORS[name]
        assert VENDORS[name].name == name


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_where_its_facts_come_from(name: str) -> None:
    """With a date, because vendors change."""
    told = importlib.import_module(f"gateway.vendors.{name}").__doc__ or ""
    assert any(word in told for word in ("read 20", "shut down on 20"))


def test_every_vendors_facts_are_here() -> None:
    """A new vendor brings its row."""
    assert set(DOCUMENTED) == set(VENDORS)
    assert all(facts.keys() | {"name"} == {field.name for field in fields(Vendor)} for facts in DOCUMENTED.values())


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, facts in DOCUMENTED.items() for field in facts])
def test_a_vendor_is_as_documented(name: str, field: str) -> None:
    said, documented = getattr(VENDORS[name], field), DOCUMENTED[name][field]
    match field:
        case "present":
            assert documented is None or asyncio.run(said("a-key", {}).headers()) == documented
        case "beta_header":
            assert {others: said(others) for others in documented} == documented
        case "mend":
            for answered, mended in documented:
                answered = dict(answered)
                assert said(answered) is None
                assert answered == mended
        case _:
            assert said == documented


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_an_address_of_a_vendor_is_a_good_base_url(vendor: Vendor) -> None:
    if vendor.base_url is not None:
        url = TypeAdapter(HttpUrl).validate_python(vendor.base_url)
        assert url.scheme == "https"
        assert not vendor.base_url.endswith("/")


def test_what_a_file_does_not_say_is_as_openai_has_it() -> None:
    plain = Vendor("plain")
    assert asyncio.run(plain.present("a-key", {}).headers()) == BEARER
    assert {others: plain.beta_header(others) for others in ALWAYS_V2} == ALWAYS_V2
    assert (plain.lists_tell_more, plain.base_url, plain.organization_header) == (True, None, None)
