"""The request as the provider will get it: upstream ids, its path, its headers. Pure, once a request, no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from multidict import CIMultiDictProxy

from gateway import __version__, codec
from gateway.errors import bad_request
from gateway.lists import Page
from gateway.model import Outbound, Provider, Target
from gateway.operations import Operation, Version
from gateway.phases.locate import Located
from gateway.phases.receive import Body
from gateway.protocols import SAME, Translation
from gateway.vendors.vendor import Vendor

CROSSING_TO_PROVIDER = ("Content-Type", "Accept", "User-Agent", "Last-Event-ID")
"""The caller's headers that go to the provider as they are; besides them every `x-stainless-*` and the caller's
`OpenAI-Beta`, in the vendor's dialect. Everything else stays here: keys, cookies, organisation and project."""

_ID_NAMES = (b"_id",)
_VERSIONS: Mapping[str, Version] = {"assistants=v1": "v1", "assistants=v2": "v2"}


@dataclass(frozen=True)
class Beta:
    """What the caller's `OpenAI-Beta` says: the version of the protocol, and the other values."""

    version: Version = "v2"
    others: tuple[str, ...] = ()
    is_said: bool = True
    """Whether the caller named a version."""

    def require(self, operation: Operation) -> None:
        """Raises GatewayError 400 `invalid_beta`, in OpenAI's words, where an operation of assistants or threads is
        called without a version."""
        if not self.is_said and operation.template.startswith(("/assistants", "/threads")):
            raise bad_request(
                "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by setting"
                " the header 'OpenAI-Beta: assistants=v2'.",
                code="invalid_beta",
            )


def read_beta(headers: CIMultiDictProxy[str]) -> Beta:
    """No version means v2. Raises GatewayError 400 `invalid_beta` for one that is not served, and for two."""
    values = [value.strip() for line in headers.getall("OpenAI-Beta", ()) for value in line.split(",")]
    said = {value for value in values if value.startswith("assistants=")}
    named = said or {"assistants=v2"}
    version = _VERSIONS.get(next(iter(named))) if len(named) == 1 else None
    if version is None:
        raise bad_request(
            f"'{', '.join(sorted(named))[:60]}' is not served; "
            "set the header 'OpenAI-Beta: assistants=v2' or leave it out",
            param="OpenAI-Beta",
            code="invalid_beta",
        )
    return Beta(version, tuple(value for value in values if value and value not in named), bool(said))


def rewrite_body(operation: Operation, body: Body, located: Located, translation: Translation = SAME) -> bytes:
    """The body with upstream ids, in the provider's version of the protocol, with the provider's names of models.
    Where nothing changes, the very bytes that came.

    Raises GatewayError 400 where such bytes could hide an id from us (`codec.refuse_hidden_names`).
    """
    if (document := body.document) is not None:
        for slot, upstream in located.slots:
            slot.fill(upstream)
        said = translation.request(operation, document)
        if (model := located.target.provider.upstream_model(document)) is not None:
            said = {**said, "model": model}
        if located.slots or said != document:
            return codec.dumps(said)
        try:
            codec.refuse_hidden_names(body.raw, _ID_NAMES)
        except codec.DuplicateName as exc:
            raise bad_request(str(exc), param=exc.name, code="duplicate_name") from exc
    return body.raw


def rewrite_out(
    operation: Operation,
    located: Located,
    *,
    raw_query: str,
    page: Page | None,
    headers: CIMultiDictProxy[str],
    beta: Beta,
    streaming: bool,
) -> Outbound:
    """Method, URL and headers for the provider; `page` is set for lists and may ask for one item more."""
    provider, vendor = located.target.provider, located.target.provider.vendor
    # Some vendors turn requests away that do not say who they are.
    sent = {"User-Agent": f"threads-gateway/{__version__}"}
    sent |= {name: headers[name] for name in CROSSING_TO_PROVIDER if name in headers}
    sent |= {name: value for name, value in headers.items() if name.lower().startswith("x-stainless-")}
    if (value := _beta_header(operation, vendor, beta)) is not None:
        sent["OpenAI-Beta"] = value
    sent |= account_headers(located.target)
    # What we must read is cheap to unpack; what we pass on as it comes is asked for plain.
    sent["Accept-Encoding"] = "identity" if streaming or operation.answers in ("bytes", "any") else "gzip, deflate"
    return Outbound(
        operation.method, url_of(provider, path_of(operation, located.path_ids), _query(located, raw_query, page)), sent
    )


def account_headers(target: Target) -> dict[str, str]:
    """What says whose account it is, where the vendor has headers for that."""
    vendor, account = target.provider.vendor, target.account
    said = {vendor.organization_header: account.organization, vendor.project_header: account.project}
    return {name: value for name, value in said.items() if name and value}


def _beta_header(operation: Operation, vendor: Vendor, beta: Beta) -> str | None:
    """Only what is of assistants and threads says a version of them."""
    return ",".join(beta.others) or None if operation.answers == "any" else vendor.beta_header(beta.others)


def url_of(provider: Provider, path: str, query: str = "") -> str:
    """Where an operation is at this provider, with what its vendor wants in every URL. `query` is ready encoded."""
    if provider.api_version is not None:
        query += ("&" if query else "") + urlencode({"api-version": provider.api_version})
    return provider.base_url + path + (f"?{query}" if query else "")


def path_of(operation: Operation, ids: Mapping[str, str]) -> str:
    """An operation's path with upstream ids by kind."""
    segments = operation.template.split("/")
    return "/".join(
        quote(ids[segment.strip("{}")], safe="") if segment.startswith("{") else segment for segment in segments
    )


def _query(located: Located, raw_query: str, page: Page | None) -> str:
    """The caller's query, letter for letter unless it holds an id or the limit has to change."""
    asks_otherwise = page is not None and page.asked != page.limit
    if not located.query_has_ids and not asks_otherwise:
        return raw_query
    pairs = list(located.query)
    if page is not None and asks_otherwise:
        pairs = [pair for pair in pairs if pair[0] != "limit"] + [("limit", str(page.asked))]
    return urlencode(pairs)
