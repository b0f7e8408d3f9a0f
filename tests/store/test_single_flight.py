"""One works for all who ask at the same time, and whoever leaves takes nobody along."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.single_flight import SingleFlight


class Work:
    """Work that ends when the test says so. `begun` counts its beginnings, `left` its cancellations."""

    def __init__(self) -> None:
        self.flights = SingleFlight()
        self.begun = 0
        self.left = 0
        self._under_way: list[asyncio.Future[str]] = []

    async def make(self) -> str:
        self.begun += 1
        self._under_way.append(asyncio.get_running_loop().create_future())
        try:
            return await self._under_way[-1]
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def caller(self, key: str = "key") -> asyncio.Task[str]:
        """Somebody who asks, and waits by now."""
        task = asyncio.create_task(self.flights.share(key, self.make))
        await turns()
        return task

    async def give(self, value: str) -> None:
        self._under_way[-1].set_result(value)
        await turns()

    async def fail(self, error: Exception) -> None:
        self._under_way[-1].set_exception(error)
        await turns()


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def leave(task: asyncio.Task[str]) -> None:
    task.cancel()
    await turns()
    assert task.cancelled()


@pytest.fixture
def work() -> Work:
    return Work()


async def test_all_who_ask_at_the_same_time_get_one_result(work: Work) -> None:
    callers = [await work.caller() for _ in range(5)]
    await work.give("value")
    assert [await caller for caller in callers] == ["value"] * 5
    assert work.begun == 1


async def test_whoever_comes_later_or_wants_something_else_is_served_anew(work: Work) -> None:
    first = await work.caller()
    await work.give("early")
    second = await work.caller()
    other = await work.caller("other key")
    assert work.begun == 3
    await work.give("other")
    assert (await first, await other) == ("early", "other")
    assert not second.done()
    await leave(second)


async def test_alone_it_is_a_plain_call(work: Work) -> None:
    """No task between, no turn of the loop waited: it runs at once and ends at once."""

    async def make() -> asyncio.Task[object] | None:
        return asyncio.current_task()

    call = work.flights.share("key", make)
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    assert ended.value.value is asyncio.current_task()


async def test_when_the_one_who_works_leaves_another_takes_over(work: Work) -> None:
    working, *waiting = [await work.caller() for _ in range(4)]
    await leave(working)
    assert (work.begun, work.left) == (2, 1)
    await work.give("value")
    assert [await caller for caller in waiting] == ["value"] * 3
    assert work.begun == 2


async def test_when_the_next_leaves_in_the_same_moment_the_one_after_takes_over(work: Work) -> None:
    first, second, third = [await work.caller() for _ in range(3)]
    first.cancel()
    second.cancel()
    await turns()
    await work.give("value")
    assert await third == "value"
    assert first.cancelled()
    assert second.cancelled()


async def test_when_the_next_leaves_while_it_is_woken_nothing_is_lost(work: Work) -> None:
    """The second has been told that the first is gone, and is gone itself before it could begin."""
    first, second, third = [await work.caller() for _ in range(3)]
    first.cancel()
    await asyncio.sleep(0)  # the first ends; those who wait are about to be woken
    second.cancel()
    await turns()
    await work.give("value")
    assert await third == "value"
    assert second.cancelled()


async def test_whoever_only_waits_may_leave(work: Work) -> None:
    working, leaving, staying = [await work.caller() for _ in range(3)]
    await leave(leaving)
    await work.give("value")
    assert (await working, await staying) == ("value", "value")
    assert (work.begun, work.left) == (1, 0)


async def test_when_all_leave_the_work_ends(work: Work) -> None:
    callers = [await work.caller() for _ in range(3)]
    for caller in callers:
        await leave(caller)
    await work.caller()
    assert (work.begun, work.left) == (4, 3)


async def test_a_failure_is_not_passed_on_to_whoever_joined_under_way(work: Work) -> None:
    """Its own attempt has all of its own time."""
    working, waiting = [await work.caller() for _ in range(2)]
    await work.fail(ConnectionError("slow"))
    with pytest.raises(ConnectionError):
        await working
    assert work.begun == 2
    await work.give("value")
    assert await waiting == "value"


async def test_nobody_waits_for_two_failures_of_others(work: Work) -> None:
    """A provider that fails everybody is asked twice, not once for each caller in a row."""
    callers = [await work.caller() for _ in range(20)]
    await work.fail(ConnectionError("first"))
    await work.fail(ConnectionError("second"))
    assert all(caller.done() for caller in callers)
    assert [str(caller.exception()) for caller in callers] == ["first"] + ["second"] * 19
    assert work.begun == 2


async def test_work_that_cancels_itself_is_its_own_callers_matter(work: Work) -> None:
    working, waiting = [await work.caller() for _ in range(2)]
    work._under_way[-1].cancel()
    await turns()
    assert working.cancelled()
    await work.give("value")
    assert await waiting == "value"
