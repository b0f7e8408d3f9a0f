"""Which account-level objects an answer created or removed, for the owner index. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.operations import Operation


@dataclass(frozen=True)
class OwnerChange:
    """Upstream ids by kind."""

    created: Mapping[str, list[str]] = field(default_factory=dict)
    removed: Mapping[str, list[str]] = field(default_factory=dict)


def note_owner(
    operation: Operation, sent: dict[str, Any] | None, answered: dict[str, Any], path_ids: Mapping[str, str]
) -> OwnerChange:
    """What to note after a success. `answered` still has upstream ids."""
    if operation.owned == "delete":
        return OwnerChange(removed={operation.kind: [path_ids[operation.kind]]})
    created: dict[str, list[str]] = {}
    if operation.owned == "create" and isinstance(answered.get("id"), str):
        created[operation.kind] = [answered["id"]]
    if _file_search(sent).get("vector_stores"):
        # Vector stores described in place are made by the vendor; only the answer tells their ids. Beside them it names
        # those that were only attached, which may be another tenant's.
        ids, attached = (_file_search(said).get("vector_store_ids") or [] for said in (answered, sent))
        created["vector_store"] = [
            upstream for upstream in ids if isinstance(upstream, str) and upstream not in attached
        ]
    return OwnerChange(created={kind: ids for kind, ids in created.items() if ids})


def _file_search(document: dict[str, Any] | None) -> dict[str, Any]:
    resources = (document or {}).get("tool_resources")
    search = resources.get("file_search") if isinstance(resources, dict) else None
    return search if isinstance(search, dict) else {}
