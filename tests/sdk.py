"""The official SDK as tests use it."""

from __future__ import annotations

import ssl
from typing import Any

from openai import DefaultAsyncHttpxClient

_TRUST = ssl.create_default_context()


def http_client(**settings: Any) -> DefaultAsyncHttpxClient:
    """What the SDK makes for itself, but that all share whom to trust: nobody here speaks TLS, and each reading of
    all the world's authorities takes longer than most tests."""
    return DefaultAsyncHttpxClient(verify=_TRUST, **settings)
