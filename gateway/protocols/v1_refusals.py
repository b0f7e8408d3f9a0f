"""Refusing what cannot be translated: always a 400 that names the parameter and says what to do."""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError, bad_request, wrong_type


def unsupported_in_v1(param: str | None, what: str, advice: str) -> GatewayError:
    """For a v2 caller whose provider speaks v1."""
    return bad_request(
        f"{what} cannot be expressed in protocol v1, which this provider speaks; {advice}",
        param=param,
        code="unsupported_in_v1",
    )


def ambiguous_files(param: str) -> GatewayError:
    """For a body with `file_ids` and with the v2 field of the same meaning: taking one would lose the other."""
    return bad_request(
        f"'{param}' belongs to protocol v2 and cannot stand beside 'file_ids'; send one of them",
        param=param,
        code="ambiguous_files",
    )


def refuse_said(value: Any, param: str, what: str, advice: str) -> None:
    """Raises `unsupported_in_v1` for the first field below that says something.

    null and empty containers say nothing: programs copy them from answers into requests.
    """
    if said := _first_said(value, param):
        raise unsupported_in_v1(said, what, advice)


def _first_said(value: Any, param: str) -> str | None:
    if type(value) is dict:
        inner = (_first_said(below, f"{param}.{name}") for name, below in value.items())
        return next((name for name in inner if name), None)
    return None if value is None or value == [] else param


def read_file_ids(file_ids: Any, param: str) -> list[str]:
    """A list of its own with the given ids. Raises GatewayError 400 `invalid_type` for anything but strings."""
    if type(file_ids) is not list:
        raise wrong_type(param, "an array", file_ids)
    for place, file in enumerate(file_ids):
        if type(file) is not str:
            raise wrong_type(f"{param}[{place}]", "a string", file)
    return list(file_ids)
