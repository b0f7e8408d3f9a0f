from __future__ import annotations

import asyncio

from redis import Redis

from gateway.engine.store.ids import PREFIXES, mint
from gateway.engine.store.lists import Page, Window
from gateway.engine.store.results import Absent, Done, Lost, NothingToRun, RunActive
from gateway.engine.store.work import Change
from tests.engine.store.conftest import OpenReplica, Replica
from tests.engine.store.objects import CONTEXT, NOW, listed, make_run, make_thread, message, run, thread


def test_ids_are_of_letters_and_digits_and_never_the_same() -> None:
    for kind, prefix in PREFIXES.items():
        ids = {mint(kind) for _ in range(1000)}
        assert len(ids) == 1000
        assert all(id_.startswith(prefix) and id_.removeprefix(prefix).isalnum() and len(id_) > 24 for id_ in ids)


async def test_a_thread_is_made_with_its_messages_in_order(replica: Replica) -> None:
    made = thread()
    assert await replica.threads.create(made, [message(text=text) for text in "abc"], tenant="alice", now=NOW) == Done()
    assert await replica.threads.get(made["id"]) == made
    assert await listed(replica, made["id"]) == ["a", "b", "c"]


async def test_json_comes_back_as_it_was(replica: Replica) -> None:
    """Lua's own JSON would make objects of empty lists and floats of large numbers."""
    made = thread() | {"tool_resources": {"code_interpreter": {"file_ids": []}}, "metadata": {"x": "\ud800 é 𝄞"}}
    exact = message(content=[], metadata={"n": 2**63, "f": 1.0, "none": None, "empty": {}})
    await replica.threads.create(made, [exact], tenant="alice", now=NOW)
    assert await replica.threads.get(made["id"]) == made
    assert await replica.messages.get(made["id"], exact["id"]) == exact


async def test_what_is_set_is_set_and_the_rest_stays(replica: Replica) -> None:
    id_ = await make_thread(replica)
    before = await replica.threads.get(id_)
    assert isinstance(before, dict)
    assert await replica.threads.modify(id_, {}) == before
    after = before | {"metadata": {"a": "b"}}
    assert await replica.threads.modify(id_, {"metadata": {"a": "b"}}) == after
    after |= {"tool_resources": {"file_search": {"vector_store_ids": []}}}
    assert await replica.threads.modify(id_, {"tool_resources": after["tool_resources"]}) == after
    assert await replica.threads.get(id_) == after


async def test_resources_are_replaced_only_by_who_has_seen_them(replica: Replica, other: Replica) -> None:
    """A write that the connection repeats is no second writer."""
    id_ = await make_thread(replica)
    first, second = ({"file_search": {"vector_store_ids": [store]}} for store in ("vs_1", "vs_2"))
    seen = await replica.threads.read_resources(id_)
    assert not isinstance(seen, Absent)
    assert not seen[0]
    assert await replica.threads.swap_resources(id_, first, seen[1]) is True
    assert await other.threads.swap_resources(id_, second, seen[1]) is False
    assert await replica.threads.swap_resources(id_, first, seen[1]) is True
    now = await other.threads.read_resources(id_)
    assert not isinstance(now, Absent)
    assert now[0] == first
    assert await other.threads.swap_resources(id_, second, now[1]) is True
    found = await replica.threads.get(id_)
    assert isinstance(found, dict)
    assert found["tool_resources"] == second
    await replica.threads.delete(id_, now=NOW)
    assert await replica.threads.read_resources(id_) == Absent("thread")
    assert await replica.threads.swap_resources(id_, first, b"") == Absent("thread")


async def test_a_deleted_thread_is_as_one_that_never_was(replica: Replica, other: Replica, plain: Redis) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    publisher = replica.events.publish(claim)
    publisher.send(("thread.run.created", b"{}"))
    await publisher.flush()
    assert await replica.threads.delete(id_, now=NOW) == Done()
    for gone in (id_, mint("thread")):
        assert await other.threads.delete(gone, now=NOW) == Absent("thread")
        assert await other.threads.get(gone) == Absent("thread")
        assert await other.threads.modify(gone, {"metadata": {}}) == Absent("thread")
        assert await other.messages.append(gone, message(), now=NOW) == Absent("thread")
        assert await other.messages.modify(gone, "msg_x", {}) == Absent("thread")
        assert await other.messages.list(gone, Window()) == Absent("thread")
        assert await other.runs.list(gone, Window()) == Absent("thread")
        assert await other.runs.get(gone, claim.run) == Absent("run")
        assert await other.steps.list(gone, claim.run, Window()) == Absent("run")
        new = run()
        refused = await other.runs.create(gone, new, needs_user_message=False, context=CONTEXT, now=NOW)
        assert refused == Absent("thread")
    assert await replica.work.write(claim, Change("commit", "message", message("assistant"))) == Lost.GONE
    assert replica.leases.held == ()
    await publisher.close()
    assert list(plain.scan_iter(f"*{{{id_}}}*")) == [f"{replica.store.prefix}:{{{id_}}}:t"]  # the trace


async def test_a_late_copy_of_a_creation_brings_no_deleted_thread_back(other: Replica) -> None:
    made = thread()
    await other.threads.create(made, [], tenant="alice", now=NOW)
    await other.threads.delete(made["id"], now=NOW)
    await other.threads.create(made, [], tenant="alice", now=NOW)
    assert await other.threads.get(made["id"]) == Absent("thread")


async def test_a_message_is_refused_while_a_run_is_active(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    late = message()
    assert await replica.messages.append(id_, late, now=NOW) == RunActive(claim.run)
    assert await replica.messages.get(id_, late["id"]) == Absent("message")
    written = message("assistant", "from the run", run_id=claim.run)
    await replica.work.write(claim, Change("commit", "message", written))
    assert await listed(replica, id_) == ["hello", "from the run"]


async def test_messages_are_modified_and_deleted(replica: Replica) -> None:
    first, second = message(text="1"), message(text="2")
    id_ = await make_thread(replica, first, second)
    assert await replica.messages.modify(id_, first["id"], {"a": "b"}) == first | {"metadata": {"a": "b"}}
    assert await replica.messages.get(id_, first["id"]) == first | {"metadata": {"a": "b"}}
    assert await replica.messages.delete(id_, first["id"]) == Done()
    assert await replica.messages.delete(id_, first["id"]) == Absent("message")
    assert await replica.messages.get(id_, first["id"]) == Absent("message")
    assert await replica.messages.modify(id_, first["id"], {}) == Absent("message")
    assert await listed(replica, id_) == ["2"]


async def test_a_late_copy_of_an_append_brings_no_deleted_message_back(other: Replica) -> None:
    id_ = await make_thread(other)
    again = message(text="again")
    await other.messages.append(id_, again, now=NOW)
    await other.messages.delete(id_, again["id"])
    assert await other.messages.append(id_, again, now=NOW) == Done()
    assert await listed(other, id_) == ["hello"]


async def test_a_message_that_is_being_written_cannot_be_deleted(replica: Replica) -> None:
    id_ = await make_thread(replica)
    claim = await make_run(replica, id_)
    written = message("assistant", status="in_progress")
    await replica.work.write(claim, Change("begin", "message", written))
    assert await replica.messages.delete(id_, written["id"]) == RunActive(claim.run)
    await replica.work.write(claim, Change("commit", "message", written))
    assert await replica.messages.delete(id_, written["id"]) == Done()


async def test_a_run_needs_a_message_of_a_user_or_instructions(replica: Replica) -> None:
    only = message()
    id_ = await make_thread(replica, message("assistant"), only)
    await replica.messages.delete(id_, only["id"])

    async def create(*more: dict[str, object], needed: bool) -> object:
        return await replica.runs.create(id_, run(), more, needs_user_message=needed, context=CONTEXT, now=NOW)

    assert await create(needed=True) == NothingToRun()
    assert await create(message("assistant"), needed=True) == NothingToRun()
    assert await listed(replica, id_) == ["hello"]
    assert not isinstance(await create(message(), needed=True), NothingToRun)


async def test_of_two_that_race_one_wins_and_the_other_learns_which(open_replica: OpenReplica) -> None:
    replicas = [await open_replica() for _ in range(4)]
    id_ = await make_thread(replicas[0])
    runs = [run() for _ in replicas]
    results = await asyncio.gather(
        *(
            at.runs.create(id_, made, needs_user_message=True, context=CONTEXT, now=NOW)
            for at, made in zip(replicas, runs, strict=True)
        )
    )
    losers = [result for result in results if isinstance(result, RunActive)]
    (winner,) = [at for at in replicas if at.leases.held]
    assert losers == [RunActive(winner.leases.held[0].run)] * 3
    page = await winner.runs.list(id_, Window())
    assert isinstance(page, Page)
    assert len(page.objects) == 1


async def test_appends_that_race_are_all_there_once(open_replica: OpenReplica) -> None:
    replicas = [await open_replica(twice=bool(number)) for number in range(2)]
    id_ = await make_thread(replicas[0])
    texts = [str(number) for number in range(40)]
    await asyncio.gather(*(replicas[int(text) % 2].messages.append(id_, message(text=text), now=NOW) for text in texts))
    assert sorted(await listed(replicas[0], id_)) == sorted(["hello", *texts])
