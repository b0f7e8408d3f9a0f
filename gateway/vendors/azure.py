"""Azure OpenAI (learn.microsoft.com, Assistants reference, read 2026-11-21; sunset together with OpenAI's). Nothing
here was tried against the live vendor.

Documented: the path prefix `/openai`, which belongs to `base_url`; `api-version` on every call; the key in `api-key`;
file ids such as `assistant-…`, so that a prefix never tells an id's kind; errors with a `code` that is a number in
quotes or a name such as `DeploymentNotFound`; 429 with `retry-after`. A model is the name of a deployment: the
provider's `models` translates. Rate limits belong to the deployment, hence to the account and not to one of its keys.
The API in which models are asked, below `/openai/v1`, needs no `api-version` (its "API version lifecycle", read
2026-11-22), so a provider that serves threads sends none of its own accord.
"""

from collections.abc import Mapping

from gateway.credentials import Credentials, FixedHeaders
from gateway.vendors.vendor import Vendor


def api_key(secret: str, options: Mapping[str, str]) -> Credentials:
    return FixedHeaders({"api-key": secret})


def only_what_was_asked(others: tuple[str, ...]) -> str | None:
    """The version of the protocol is in `api-version`; what else the caller asked for passes."""
    return ",".join(others) or None


VENDOR = Vendor(
    name="azure",
    present=api_key,
    api_version="2024-05-01-preview",
    beta_header=only_what_was_asked,
    rate_limits_belong_to="account",
)
