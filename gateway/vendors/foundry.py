"""Azure AI Foundry Agent Service, classic (learn.microsoft.com, read 2026-11-21; it retires on 2027-03-31). Nothing
here was tried against the live vendor.

Documented: the protocol of Azure OpenAI Assistants under a project endpoint, which is `base_url`
(`https://{resource}.services.ai.azure.com/api/projects/{project}`); `api-version=v1`; an Entra access token for the
scope `https://ai.azure.com/.default` as bearer. An account's key is a client secret; its `options` say `tenant_id` and
`client_id`, and may say another `authority`, `scope` or `ca_file`. Not documented: the code of its 401s. Public issues
show `PermissionDenied` for a missing role, for which no new token helps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.credentials import Credentials, KeyRefused
from gateway.errors import AttemptFailed
from gateway.vendors.azure import only_what_was_asked
from gateway.vendors.vendor import Vendor

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

_SCOPE = "https://ai.azure.com/.default"
_RENEW_BEFORE_S = 300
"""A token lives about an hour; it is renewed this long before its end."""
_FETCH_S = 5


class EntraToken:
    """An access token from client credentials: fetched once for all requests that wait for it, renewed before it
    ends, and anew after the provider refused it."""

    def __init__(self, secret: str, options: Mapping[str, str]) -> None:
        self._secret = secret
        self._options = options
        self._token: AccessToken | None = None
        self._fetching = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """A token that still lives serves on when its early renewal fails."""
        async with self._fetching:
            left_s = self._token.expires_on - time.time() if self._token is not None else 0
            if left_s < _RENEW_BEFORE_S:
                try:
                    self._token = await self._fetch()
                except (AttemptFailed, KeyRefused):
                    if left_s <= 0:
                        raise
            assert self._token is not None
            return _bearer(self._token)

    async def _fetch(self) -> AccessToken:
        """A new credential for each token: one that is kept would answer from a cache of its own, the refused token
        included."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity.aio import ClientSecretCredential

        given = {"authority": self._options.get("authority"), "connection_verify": self._options.get("ca_file")}
        try:
            async with ClientSecretCredential(
                self._options["tenant_id"],
                self._options["client_id"],
                self._secret,
                retry_total=1,
                connection_timeout=_FETCH_S,
                read_timeout=_FETCH_S,
                **{name: value for name, value in given.items() if value is not None},
                disable_instance_discovery="authority" in self._options,
            ) as credential:
                return await credential.get_token(self._options.get("scope", _SCOPE))
        except ClientAuthenticationError as exc:
            # The class alone does not tell a wrong secret from an Entra that fails; the status does.
            if getattr(exc, "status_code", None) in (400, 401):
                raise KeyRefused("Entra does not accept this client secret") from exc
            raise _no_token() from exc
        except (AzureError, ValueError) as exc:
            raise _no_token() from exc

    def renew(self, refused: Mapping[str, str]) -> bool:
        if self._token is not None and _bearer(self._token) == refused:
            self._token = None
        return True


def _bearer(token: AccessToken) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token.token}"}


def _no_token() -> AttemptFailed:
    what = "is not asked, because Entra gives no access token"
    return AttemptFailed(502, what, code="provider_unreachable", arrived=False)


def entra_token(secret: str, options: Mapping[str, str]) -> Credentials:
    return EntraToken(secret, options)


VENDOR = Vendor(
    name="foundry",
    present=entra_token,
    needs=("azure.identity", "foundry"),
    required_options=frozenset({"tenant_id", "client_id"}),
    allowed_options=frozenset({"authority", "scope", "ca_file"}),
    api_version="v1",
    beta_header=only_what_was_asked,
    rate_limits_belong_to="account",
)
