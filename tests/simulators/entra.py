"""The Microsoft Entra ID that issues the tokens for `foundry`: client credentials for one scope, over TLS.

`azure-identity` takes no authority without https, hence a certificate authority of its own, in the file `ca_path`.

Documented (learn.microsoft.com, OAuth 2.0 client credentials flow and OpenID Connect, read 2026-11-21): the two
paths, the form, the fields of a token and of an error, the life of a token of about an hour. Public issues have a
wrong secret as 401 `invalid_client` with AADSTS7000215. Not known: the status of the other refusals (400 here).
Tokens are opaque to those who use them, and here to everybody.
"""

import re
import secrets
import ssl
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import trustme

from tests.simulators.base import Simulator
from tests.simulators.threads_server.ask import Ask
from tests.simulators.threads_server.dialect import Dialect
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.server import Reply, json_reply

TENANT_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "tenant"))
SCOPE = "https://ai.azure.com/.default"
METADATA_PATH = f"/{TENANT_ID}/v2.0/.well-known/openid-configuration"
TOKEN_PATH = f"/{TENANT_ID}/oauth2/v2.0/token"
TOKEN_BYTES = 1200
"""Before it is encoded, which makes a token about as long as real ones."""


def client_id_of(account: str) -> str:
    """The one application that is registered for this account; each of the account's keys is a secret of it."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, account))


def oauth_error(refused: Refused) -> Json:
    return {
        "error": refused.code or "temporarily_unavailable",
        "error_description": refused.message,
        "error_codes": [int(number) for number in re.findall(r"^AADSTS(\d+)", refused.message)],
        "correlation_id": str(uuid.uuid4()),
    }


ENTRA = Dialect("entra", error_body=oauth_error)


def read_form(body: bytes) -> Mapping[str, str]:
    return dict(parse_qsl(body.decode(errors="replace")))


@dataclass(frozen=True)
class Issued:
    """For which secret there is a token, and the second in which it ends."""

    secret: str
    ends_at: int


@dataclass(eq=False)
class Entra(Simulator):
    """`keys` are the client secrets and whose they are; another mapping may be set at any time.

    Journal and faults are those of every simulator: `hold` makes it slow, `status` makes it fail, `refuse` takes
    it away. A received request's key is the secret in its form.
    """

    dialect: Dialect = ENTRA
    expires_in_s: int = 3599
    """The life of the tokens issued from now on."""
    _issued: dict[str, Issued] = field(default_factory=dict, init=False)
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)

    @property
    def ca_path(self) -> str:
        """The PEM file of the authority that has to be trusted; there from the start to the stop."""
        assert self._folder is not None
        return str(Path(self._folder.name) / "ca.pem")

    def client_context(self) -> ssl.SSLContext:
        """What a caller that trusts the authority connects with."""
        return ssl.create_default_context(cafile=self.ca_path)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        authority = trustme.CA()
        self._folder = tempfile.TemporaryDirectory()
        authority.cert_pem.write_to_path(self.ca_path)
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self.tls)
        await super().start(host, port)

    async def stop(self) -> None:
        await super().stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def issue(self, secret: str) -> str:
        """A token that was not asked for over HTTP."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._issued[token] = Issued(secret, self.now() + self.expires_in_s)
        return token

    def secret_of(self, token: str | None) -> str | None:
        """For which secret the token was issued; None when it is unknown, revoked or at its end."""
        issued = self._issued.get(token or "")
        return issued.secret if issued is not None and self.now() < issued.ends_at else None

    def revoke_all(self) -> None:
        """No token issued until now is good any more."""
        self._issued.clear()

    def key_of(self, ask: Ask) -> str | None:
        return read_form(ask.body).get("client_secret")

    def reply(self, ask: Ask) -> Reply:
        try:
            return json_reply(200, self._answer_ask(ask), {"Cache-Control": "no-store"})
        except Refused as refused:
            return json_reply(refused.status, oauth_error(refused), {})

    def _answer_ask(self, ask: Ask) -> Json:
        match ask.method, ask.path:
            case "GET", path if path == METADATA_PATH:
                return self._metadata()
            case "POST", path if path == TOKEN_PATH:
                return self._grant(read_form(ask.body))
        raise Refused("AADSTS900023: There is no such tenant or endpoint.", status=404, code="invalid_request")

    def _metadata(self) -> Json:
        return {
            "issuer": f"{self.url}/{TENANT_ID}/v2.0",
            "authorization_endpoint": f"{self.url}/{TENANT_ID}/oauth2/v2.0/authorize",
            "token_endpoint": self.url + TOKEN_PATH,
            "jwks_uri": f"{self.url}/{TENANT_ID}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def _grant(self, form: Mapping[str, str]) -> Json:
        secret, client_id = form.get("client_secret", ""), form.get("client_id", "")
        if form.get("grant_type") != "client_credentials":
            raise Refused("AADSTS70003: This grant type is not supported.", code="unsupported_grant_type")
        if form.get("scope") != SCOPE:
            raise Refused(f"AADSTS70011: The scope '{form.get('scope')}' is not valid.", code="invalid_scope")
        if client_id not in map(client_id_of, self.keys.values()):
            message = f"AADSTS700016: There is no application '{client_id}' in this directory."
            raise Refused(message, code="unauthorized_client")
        if secret not in self.keys or client_id_of(self.keys[secret]) != client_id:
            message = f"AADSTS7000215: This is no client secret of the application '{client_id}'."
            raise Refused(message, status=401, code="invalid_client")
        lives = {"expires_in": self.expires_in_s, "ext_expires_in": self.expires_in_s}
        return {"token_type": "Bearer", **lives, "access_token": self.issue(secret)}
