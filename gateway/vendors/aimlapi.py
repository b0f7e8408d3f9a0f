"""AIML API (docs.aimlapi.com, Assistants pages, read 2026-11-21). Nothing here was tried against the live vendor.

Documented: no `/v1` in the paths; no `OpenAI-Beta` header in the examples; lists are bare JSON arrays, those of
assistants wrapped but without cursors; creating answers 201; `metadata` comes back null. Not documented, hence
handled both ways: the shape of errors, the format of streams, whether list parameters are honoured, whom rate limits
belong to (taken as the key's), files and vector stores (taken as OpenAI's; a 404 is passed on).
"""

from typing import Any

from gateway.vendors.vendor import Vendor


def only_what_was_asked(others: tuple[str, ...]) -> str | None:
    """No beta header unless the caller has something else to say than the version, which is v2 anyway."""
    return ",".join(others) or None


def fill_metadata(answer: dict[str, Any]) -> None:
    """`metadata: null` is `{}` in the reference, and programs write into it."""
    if "metadata" in answer and answer["metadata"] is None:
        answer["metadata"] = {}


VENDOR = Vendor(
    name="aimlapi",
    base_url="https://api.aimlapi.com",
    beta_header=only_what_was_asked,
    lists_tell_more=False,
    rate_limits_belong_to="key",
    mend=fill_metadata,
)
