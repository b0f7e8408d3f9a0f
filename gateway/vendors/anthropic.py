"""Anthropic: models, and no threads, hence for providers with `serve: threads` only. Nothing here was tried against
the live vendor.

Documented (platform.claude.com: API overview, errors, rate limits; Anthropic's SDK for Python, 0.121; all
read 2026-11-22): the key in `x-api-key`; `anthropic-version` with every call, hence with the reads that try a key too,
and `2023-06-01` as the only version in use; models are listed at `/v1/models`. Limits are counted for an
organisation, or a workspace of it, and a family of models: another key of the same account does not help. Errors
have a type and no code: a key that is wrong in whatever way is a 401 `authentication_error`, so a read tries it
again before it counts as dead; 402 `billing_error`, 403 `permission_error`, 429 `rate_limit_error` with
`retry-after`, 529 `overloaded_error`. Not documented: whether a workspace may be kept from listing models (taken so
that only a 401 speaks against a key).
"""

from collections.abc import Mapping

from gateway.credentials import Credentials, FixedHeaders
from gateway.vendors.vendor import Vendor

VERSION = {"anthropic-version": "2023-06-01"}


def x_api_key(secret: str, options: Mapping[str, str]) -> Credentials:
    return FixedHeaders({"x-api-key": secret, **VERSION})


VENDOR = Vendor(
    name="anthropic",
    base_url="https://api.anthropic.com/v1",
    present=x_api_key,
    has_threads=False,
    rate_limits_belong_to="account",
)
