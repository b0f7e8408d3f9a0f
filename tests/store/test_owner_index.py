"""Who made what: in order, per tenant, account and kind, and not lost while the store is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.store.connection import Store, StoreAway
from gateway.store.owner_index import Owned, OwnerIndex
from tests.conftest import Events, eventually
from tests.store.conftest import Embed

MINE = Owned("alice", "aaaa", "assistant")
OTHERS = [Owned("bob", "aaaa", "assistant"), Owned("alice", "bbbb", "assistant"), Owned("alice", "aaaa", "file")]


@pytest.fixture
def index(store: Store) -> OwnerIndex:
    return OwnerIndex(store)


async def ids(index: OwnerIndex, owned: Owned = MINE, *, newest_first: bool = False) -> list[str]:
    found = await index.page(owned, newest_first=newest_first, above=None, below=None, count=1000)
    return [upstream for upstream, _ in found]


async def test_objects_stand_in_the_order_of_their_creation(index: OwnerIndex) -> None:
    for batch in (["c"], ["a", "d"], ["b"]):
        await index.add(MINE, batch)
    assert await ids(index) == ["c", "a", "d", "b"]
    assert await ids(index, newest_first=True) == ["b", "d", "a", "c"]
    for other in OTHERS:
        assert await ids(index, other) == []


async def test_an_object_keeps_its_place_when_it_is_noted_again(index: OwnerIndex) -> None:
    """So a command that ran twice does no harm."""
    await index.add(MINE, ["a", "b"])
    place = await index.place(MINE, "a")
    await index.add(MINE, ["a"])
    assert await index.place(MINE, "a") == place
    assert await ids(index) == ["a", "b"]


async def test_objects_go_and_what_is_not_there_has_no_place(index: OwnerIndex) -> None:
    await index.add(MINE, ["a", "b"])
    await index.remove(MINE, ["a", "never"])
    assert await ids(index) == ["b"]
    assert await index.place(MINE, "a") is None
    assert await index.place(OTHERS[0], "b") is None


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_join_without_gap_or_repetition(index: OwnerIndex, newest_first: bool) -> None:
    """However close together the objects were made."""
    names = [f"id{number:03}" for number in range(200)]
    await asyncio.gather(*(index.add(MINE, [name]) for name in names))
    seen: list[tuple[str, float]] = []
    above = below = None
    while page := await index.page(MINE, newest_first=newest_first, above=above, below=below, count=7):
        seen += page
        above, below = (None, page[-1][1]) if newest_first else (page[-1][1], None)
    assert sorted(name for name, _ in seen) == names
    assert [place for _, place in seen] == sorted({place for _, place in seen}, reverse=newest_first)


async def test_a_window_leaves_out_its_ends(index: OwnerIndex) -> None:
    await index.add(MINE, list("abcde"))
    above, below = await index.place(MINE, "a"), await index.place(MINE, "d")
    for newest_first, expected in ((False, ["b", "c"]), (True, ["c", "b"])):
        page = await index.page(MINE, newest_first=newest_first, above=above, below=below, count=10)
        assert [name for name, _ in page] == expected
        page = await index.page(MINE, newest_first=newest_first, above=above, below=below, count=1)
        assert [name for name, _ in page] == expected[:1]


async def test_what_comes_while_the_store_is_away_is_written_in_order_when_it_is_back(
    embed: Embed, data_dir: Path, events: Events
) -> None:
    valkey = embed(data_dir)
    store = Store(valkey.url, prefix="p", timeout_s=1)
    index = OwnerIndex(store)
    store.on_return.append(index.flush)
    for name in "abc":
        await index.add(MINE, [name])
    await index.add(OTHERS[0], ["d"])
    await index.remove(MINE, ["nothing"])
    with pytest.raises(StoreAway):
        await index.place(MINE, "a")
    assert [event["upstream_ids"] for event in events.named("index.late")] == [["a"], ["b"], ["c"], ["d"]]
    await valkey.start()
    await eventually(lambda: store.is_ready)

    async with asyncio.timeout(5):
        while len(await ids(index)) < 3 or len(await ids(index, OTHERS[0])) < 1:
            await asyncio.sleep(0.005)
    assert await ids(index) == ["a", "b", "c"]
    index.close()
    assert events.named("index.lost") == []
    await store.close()


async def test_only_so_much_is_kept_and_what_is_lost_is_said(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.owner_index._LATE_LIMIT", 2)
    store = Store(f"unix://{tmp_path}/nobody", prefix="p", timeout_s=1)
    index = OwnerIndex(store)
    for name in "abc":
        await index.add(MINE, [name])
    assert [event["upstream_ids"] for event in events.named("index.lost")] == [["a"]]
    index.close()
    lost = events.named("index.lost")
    assert [event["upstream_ids"] for event in lost] == [["a"], ["b"], ["c"]]
    assert {(event["tenant"], event["route"], event["kind"], event["level"]) for event in lost} == {(*MINE, "error")}
    index.close()
    assert len(events.named("index.lost")) == 3
    await store.close()
