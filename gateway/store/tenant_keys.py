"""Keys issued to tenants at run time, shared by all replicas: what each may be used for, until when, and whether it was
revoked.

A key is known by its SHA-256 and never kept itself. It holds 238 random bits, so its digest needs no salt and no slow
hash: there is nothing to guess, and whoever reads the store cannot call.

A revocation is never forgotten while the key has no end of its own; an expired key is shown for thirty days.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.config import Allowance, digest_of_key
from gateway.model import UNLIMITED, UNRESTRICTED, Scope
from gateway.store.connection import Store
from gateway.store.mirror import Mirror

PREFIX = "tgk_"
"""How an issued key begins, so that people and scanners of secrets know one."""
_SIGNS = string.ascii_letters + string.digits
_RANDOM_SIGNS = 40
_SHOWN_S = 30 * 86_400

State = Literal["live", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """All that is kept of a key. Times are seconds since 1970; `tenant` is an id."""

    digest: str
    """As `config.digest_of_key` writes it."""
    tenant: str
    created_s: float
    name: str = ""
    expires_s: float | None = None
    scope: Scope = UNRESTRICTED
    allowance: Allowance = UNLIMITED
    revoked_s: float | None = None
    reason: str = ""
    """Why it was revoked."""

    @property
    def fingerprint(self) -> str:
        return fingerprint_of_digest(self.digest)

    def state(self, now: float) -> State:
        if self.revoked_s is not None:
            return "revoked"
        return "expired" if self.expires_s is not None and now >= self.expires_s else "live"


class IssuedKeys:
    """All of them, mirrored in this process."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.mirror = Mirror(store, "tenant_keys", read=_read, clock=clock)

    def get(self, digest: str, now: float) -> IssuedKey | None:
        """The key of this digest, whatever its state. In memory."""
        return self.mirror.get(digest, now)

    def all(self, now: float) -> list[IssuedKey]:
        """The oldest first."""
        return sorted(self.mirror.all(now).values(), key=lambda key: (key.created_s, key.digest))

    async def issue(
        self,
        tenant: str,
        *,
        name: str = "",
        expires_s: float | None = None,
        scope: Scope = UNRESTRICTED,
        allowance: Allowance = UNLIMITED,
    ) -> tuple[str, IssuedKey]:
        """A new key and what is kept of it; it is good when this returns. Raises StoreAway: then nobody has it."""
        secret = PREFIX + "".join(secrets.choice(_SIGNS) for _ in range(_RANDOM_SIGNS))
        key = IssuedKey(digest_of_key(secret), tenant, self.mirror.now(), name, expires_s, scope, allowance)
        await self.mirror.add(key.digest, _told(key), until_s=_until_s(key))
        return secret, key

    def revoke(self, key: IssuedKey, reason: str) -> IssuedKey:
        """The key as it is now. In force when this returns; the other replicas are told in the background."""
        return self._put(replace(key, revoked_s=self.mirror.now(), reason=reason))

    def erase(self, key: IssuedKey) -> IssuedKey:
        """Revoked, and without the name that a person gave it. The digest stays: the key must never be anybody's."""
        revoked_s, reason = key.revoked_s or self.mirror.now(), key.reason or "the tenant was erased"
        return self._put(replace(key, name="", revoked_s=revoked_s, reason=reason))

    def _put(self, key: IssuedKey) -> IssuedKey:
        self.mirror.put(key.digest, _told(key), until_s=_until_s(key))
        return key


def fingerprint_of_digest(digest: str) -> str:
    """As logs and lists show a key: the first 12 hex digits."""
    return digest.removeprefix("sha256:")[:12]


def _until_s(key: IssuedKey) -> float | None:
    return key.expires_s + _SHOWN_S if key.expires_s is not None else None


def _told(key: IssuedKey) -> dict[str, Any]:
    scope = key.scope
    return {
        "digest": key.digest,
        "tenant": key.tenant,
        "created_s": key.created_s,
        "name": key.name,
        "expires_s": key.expires_s,
        "scope": {
            "is_read_only": scope.is_read_only,
            "may_delete": scope.may_delete,
            "operations": scope.operations,
            "providers": sorted(scope.providers) if scope.providers is not None else None,
            "models": sorted(scope.models) if scope.models is not None else None,
        },
        "limits": key.allowance.model_dump(exclude_none=True),
        "revoked_s": key.revoked_s,
        "reason": key.reason,
    }


def _read(said: Mapping[str, Any]) -> IssuedKey:
    limits = said["limits"]
    return IssuedKey(
        digest=str(said["digest"]),
        tenant=str(said["tenant"]),
        created_s=float(said["created_s"]),
        name=str(said["name"]),
        expires_s=float(said["expires_s"]) if said["expires_s"] is not None else None,
        scope=_read_scope(**said["scope"]),
        allowance=Allowance.model_validate(limits) if limits else UNLIMITED,
        revoked_s=float(said["revoked_s"]) if said["revoked_s"] is not None else None,
        reason=str(said["reason"]),
    )


def _read_scope(
    *,
    is_read_only: bool,
    may_delete: bool,
    operations: list[str] | None,
    providers: list[str] | None,
    models: list[str] | None,
) -> Scope:
    """Raises TypeError for a restriction that this release does not know: a key must not do more than was said."""
    return Scope(
        is_read_only is not False,
        may_delete is True,
        tuple(map(str, operations)) if operations is not None else None,
        frozenset(map(str, providers)) if providers is not None else None,
        frozenset(map(str, models)) if models is not None else None,
    )
