"""What a request's path asks for: an operation of the table, or a path that the provider lets through. Pure."""

from __future__ import annotations

from aiohttp import web

from gateway.model import Directory, Tenant
from gateway.operations import Matched, find, split, unknown_path
from gateway.phases.rewrite_out import Beta


def chosen_provider(named: str | None, request: web.BaseRequest) -> str | None:
    """The provider that the base URL names, or else the header."""
    return named or request.headers.get("x-gateway-provider")


def find_operation(request: web.BaseRequest, tenant: Tenant, beta: Beta, directory: Directory) -> Matched:
    """The operation. Raises GatewayError: 404 for a path that is none, 405 with `allow` for a wrong method, 400 for a
    missing version where the tenant needs one."""
    method, path = request.method, request.rel_url.raw_path
    if (matched := find(method, path, beta.version)) is not None:
        if tenant.needs_beta_header:
            beta.require(matched.operation)
        return matched
    named, segments = split(path)
    name = chosen_provider(named, request) or tenant.default_provider
    provider = directory.providers.get(name) if name in tenant.providers else None
    if provider is None:
        raise unknown_path(method, path)
    is_upload = request.content_type == "multipart/form-data"
    operation = provider.passthrough.find(method, segments, is_upload=is_upload)
    if operation is None:
        raise unknown_path(method, path, f": provider '{provider.name}' has no such path under 'passthrough'")
    return Matched(operation, {}, provider.name)
