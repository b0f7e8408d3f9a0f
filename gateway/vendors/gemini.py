"""Google's Gemini API (ai.google.dev, read 2026-11-22), which has models and no threads. Nothing here was tried against
the live vendor.

Documented: the key in `x-goog-api-key`; `GET /models`; errors as `gateway.google_errors` has them, among them 400
`API_KEY_INVALID` for a wrong key. A 403 is about a model or a project and only counted. Limits are taken for the
project's: the quotas that its 429s name are "PerProjectPerModel" (error bodies in public issues). Not documented: what
it says when prepaid money is used up; it is taken for the limit that its 429 is.
"""

from collections.abc import Mapping

from gateway.credentials import Credentials, FixedHeaders
from gateway.vendors.vendor import Vendor


def api_key(secret: str, options: Mapping[str, str]) -> Credentials:
    return FixedHeaders({"x-goog-api-key": secret})


VENDOR = Vendor(
    name="gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    has_threads=False,
    present=api_key,
    rate_limits_belong_to="account",
)
