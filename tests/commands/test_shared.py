"""`shared list`: what an operator tells tenants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.ids import IdSigner, route_of
from tests.commands.conftest import write_config
from tests.conftest import StartVendor, public_id

ENTRY = {"kind": "assistant", "id": "asst_1", "provider": "openai", "account": "acme"}
PLACE = {**ENTRY, "tenants": ["alice", "bob"], "withdrawn_from": []}


def share(settings: dict[str, Any]) -> None:
    settings["shared"] = [PLACE, {**ENTRY, "id": "asst_2"}]


async def test_it_tells_each_tenants_own_id_of_what_is_shared(start_vendor: StartVendor, tmp_path: Path) -> None:
    """Without a gateway or a store. An object that nobody shares any more has no row."""
    shell = write_config(tmp_path, await start_vendor("openai"), share)
    rows = (await shell("shared", "list", "--json")).rows
    assert rows == [
        {**ENTRY, "tenant": tenant, "public_id": public_id("assistant", "asst_1", tenant=tenant)}
        for tenant in ("alice", "bob")
    ]
    head, first, _ = (await shell("shared", "list")).out.splitlines()
    assert head.split() == ["KIND", "ID", "PROVIDER", "ACCOUNT", "TENANT", "PUBLIC", "ID"]
    assert first.split() == ["assistant", "asst_1", "openai", "acme", "alice", rows[0]["public_id"]]


async def test_it_signs_with_the_key_that_was_made_beside_the_embedded_store(
    start_vendor: StartVendor, tmp_path: Path
) -> None:
    """And makes none itself: ids signed with another would be no ids."""

    def unsigned(settings: dict[str, Any]) -> None:
        share(settings)
        del settings["signing_keys"]

    shell = write_config(tmp_path, await start_vendor("openai"), unsigned)
    refused = await shell("shared", "list", expect=1)
    assert "no signing key under store.data_dir" in refused.err
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "signing.key").write_text("made at the first start\n")
    [row, _] = (await shell("shared", "list", "--json")).rows
    signer = IdSigner([b"made at the first start"])
    route = route_of("openai", "acme")
    assert row["public_id"] == signer.sign("asst_1", kind="assistant", tenant="alice", route=route)
