"""Pages of every kind of list against a plain list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.engine.store.endings import Ending
from gateway.engine.store.ids import mint
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Absent, Done, UnknownCursor
from gateway.engine.store.traces import TRACES_LIMIT
from gateway.engine.store.work import Change
from tests.engine.store.conftest import OpenReplica, Replica
from tests.engine.store.objects import NOW, assistant, make_run, make_thread, message, step
from tests.values import unhurried

ACME, BOLT = "r1", "r2"
List = Callable[[Window], Awaitable[Page | Absent | UnknownCursor]]
Lists = dict[str, tuple[list[str], set[str], List]]


def expected_page(made: list[str], deleted: set[str], window: Window) -> tuple[list[str], bool, bool] | str:
    """Ids, `has_more` and whether a cursor was deleted, or the unknown cursor. `made` is all that ever was, oldest
    first."""
    shown = made if window.order == "asc" else made[::-1]
    for name, cursor in (("after", window.after), ("before", window.before)):
        if cursor is not None and cursor not in shown:
            return name
    start = shown.index(window.after) + 1 if window.after else 0
    end = shown.index(window.before) if window.before else len(shown)
    inside = [id_ for id_ in shown[start:end] if id_ not in deleted]
    was_deleted = bool({window.after, window.before} & deleted)
    is_backwards = window.before is not None and window.after is None
    ids = inside[-window.limit :] if is_backwards else inside[: window.limit]
    return ids, len(inside) > window.limit, was_deleted


@pytest.fixture
async def lists(open_replica: OpenReplica) -> Lists:
    """A list of each kind: what was ever made, what of it is deleted, and how it is asked."""
    at = await open_replica()
    made = [message(text=str(number)) for number in range(9)]
    thread = await make_thread(at, *made)
    for place in (0, 4, 8):
        await at.messages.delete(thread, made[place]["id"])
    kept = {"messages": ([one["id"] for one in made], {made[place]["id"] for place in (0, 4, 8)})}

    runs, steps, own = [], [], []
    for number in range(7):
        claim = await make_run(at, thread)
        runs.append(claim.run)
        if number == 3:
            steps = [step(claim) for _ in range(8)]
            own = [message("assistant") for _ in range(8)]
            changes = [Change("commit", "step", one) for one in steps]
            await at.work.write(claim, *changes, *(Change("commit", "message", one) for one in own))
            await at.messages.delete(thread, own[2]["id"])
        await at.work.finish(claim, Ending("completed", NOW))
    assistants = [assistant() for _ in range(9)]
    for one in assistants:
        await at.assistants.create(ACME, one, tenant="alice", now=NOW)
    await at.assistants.delete(ACME, assistants[5]["id"], tenant="alice")

    async def of_run(window: Window) -> Any:
        return await at.messages.list(thread, window, run=runs[3])

    # Messages of runs stand in the thread's list too.
    everything = [*kept["messages"][0], *(one["id"] for one in own)]
    return {
        "messages": (everything, kept["messages"][1] | {own[2]["id"]}, lambda window: at.messages.list(thread, window)),
        "messages of a run": ([one["id"] for one in own], {own[2]["id"]}, of_run),
        "runs": (runs, set(), lambda window: at.runs.list(thread, window)),
        "steps": ([one["id"] for one in steps], set(), lambda window: at.steps.list(thread, runs[3], window)),
        "assistants": (
            [one["id"] for one in assistants],
            {assistants[5]["id"]},
            lambda window: at.assistants.list(ACME, window),
        ),
    }


KINDS = ("messages", "messages of a run", "runs", "steps", "assistants")
cursors = st.none() | st.integers(0, 17)


async def test_every_page_is_what_a_plain_list_gives(lists: Lists) -> None:
    loop = asyncio.get_running_loop()

    @settings(unhurried)
    @given(st.sampled_from(KINDS), st.integers(1, 20), st.sampled_from(["asc", "desc"]), cursors, cursors)
    def check(kind: str, limit: int, order: Literal["asc", "desc"], after: int | None, before: int | None) -> None:
        made, deleted, ask = lists[kind]

        def cursor(place: int | None) -> str | None:
            return None if place is None else made[place] if place < len(made) else "msg_never"

        window = Window(limit, order, cursor(after), cursor(before))
        page = asyncio.run_coroutine_threadsafe(_awaited(ask(window)), loop).result(10)
        expected = expected_page(made, deleted, window)
        if isinstance(expected, str):
            assert page == UnknownCursor(expected)  # type: ignore[arg-type]
        else:
            assert isinstance(page, Page)
            assert ([one["id"] for one in page.objects], page.has_more, page.was_deleted) == expected

    await asyncio.to_thread(check)


async def _awaited(page: Awaitable[Any]) -> Any:
    return await page


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_who_deletes_while_paging_sees_everything_once(
    open_replica: OpenReplica, order: Literal["asc", "desc"]
) -> None:
    at = await open_replica()
    made = [message() for _ in range(25)]
    thread = await make_thread(at, *made)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await at.messages.list(thread, Window(4, order, after))
        assert isinstance(page, Page)
        for one in page.objects:
            await at.messages.delete(thread, one["id"])
            seen.append(one["id"])
        if not page.has_more:
            break
        after = seen[-1]
    ids = [one["id"] for one in made]
    assert seen == (ids if order == "asc" else ids[::-1])


async def test_traces_of_deletions_do_not_pile_up(replica: Replica, plain: Redis) -> None:
    key = replica.store.key("asst", "{r1}", "gone")
    plain.hset(key, mapping={f"asst_{number}": f"{number}:x" for number in range(TRACES_LIMIT)})
    made = assistant()
    await replica.assistants.create(ACME, made, tenant="alice", now=NOW)
    assert await replica.assistants.delete(ACME, made["id"], tenant="alice") == Done()
    assert plain.hlen(key) == 1


# --- assistants -------------------------------------------------------------------------------------------------------
async def test_assistants_are_made_changed_and_deleted(replica: Replica, plain: Redis) -> None:
    made = assistant(instructions="be short", tools=[])
    assert await replica.assistants.create(ACME, made, tenant="alice", now=NOW) == Done()
    assert await replica.assistants.get(ACME, made["id"]) == made
    changes = {"name": "n", "instructions": None, "tools": [{"type": "file_search"}]}
    assert await replica.assistants.modify(ACME, made["id"], changes) == made | changes
    assert await replica.assistants.modify(ACME, made["id"], {"name": "m"}) == made | changes | {"name": "m"}
    with pytest.raises(ValueError, match="cannot be changed: id"):
        await replica.assistants.modify(ACME, made["id"], {"id": "asst_other"})
    assert await replica.assistants.delete(ACME, made["id"], tenant="alice") == Done()
    assert await replica.assistants.delete(ACME, made["id"], tenant="alice") == Absent("assistant")
    assert await replica.assistants.get(ACME, made["id"]) == Absent("assistant")
    assert await replica.assistants.modify(ACME, made["id"], changes) == Absent("assistant")
    await replica.assistants.create(ACME, made, tenant="alice", now=NOW)  # a late copy
    assert await replica.assistants.list(ACME, Window()) == Page((), False)
    assert plain.hkeys(replica.store.key("asst", "{r1}")) == ["n"]


async def test_accounts_have_assistants_of_their_own(replica: Replica) -> None:
    made = assistant()
    await replica.assistants.create(ACME, made, tenant="alice", now=NOW)
    assert await replica.assistants.get(BOLT, made["id"]) == Absent("assistant")
    assert await replica.assistants.delete(BOLT, made["id"], tenant="alice") == Absent("assistant")
    assert await replica.assistants.list(BOLT, Window()) == Page((), False)
    assert await replica.assistants.list(BOLT, Window(after=made["id"])) == UnknownCursor("after")
    assert await replica.assistants.get(ACME, mint("assistant")) == Absent("assistant")
