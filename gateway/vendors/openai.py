"""OpenAI v2, the reference, and every server that is compatible with it.

OpenAI's own Assistants API was shut down on 2026-08-26 (its migration guide); the protocol lives on in compatible
servers, for which `base_url` is set.
"""

from gateway.vendors.vendor import Vendor

VENDOR = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    organization_header="OpenAI-Organization",
    project_header="OpenAI-Project",
    rate_limits_belong_to="account",  # per project and model: OpenAI's rate-limit guide, read 2026-11-21
)
