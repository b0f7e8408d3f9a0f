"""Every operation, asked as the OpenAPI document describes it and otherwise, in both versions of the protocol."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.operations import BY_NAME
from tests.described import OPERATIONS, faults, of_version
from tests.fuzz.cases import Case, broken, described
from tests.fuzz.conftest import Arena
from tests.wire import request

in_arena = pytest.mark.asyncio(loop_scope="module")

FEW = settings(
    max_examples=3,
    derandomize=True,  # the same cases every time: what fails here fails for everybody
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=150, derandomize=False, print_blob=True)
SPOKEN = [
    (name, version) for name in OPERATIONS for version in ("v1", "v2") if BY_NAME[name].only_in in (None, version)
]
REFUSED_ALTHOUGH_DESCRIBED = {"unsupported_in_v2"}
"""The one thing that the gateway refuses of what v1 describes, and says so."""


async def play(arena: Arena, case: Case) -> None:
    arena.reset()
    body = arena.fill(case.body, busy=case.busy)
    target = arena.fill(case.target.encode("utf-8", "surrogatepass"), busy=case.busy)
    answer = await arena.ask(request(case.method, target.decode("latin-1"), body, *case.headers))
    line = await arena.line()
    # Messages repeat what they refuse, and cut it: paths after 200 characters, values of the query after 40.
    arena.check(answer, [target[:200], *(word[:40] for word in re.split(rb"[?&=]", target) if len(word) > 40)])
    arena.check_behind()
    if case.is_described and line.get("error_source") in ("caller", "gateway"):
        assert line["error_code"] in REFUSED_ALTHOUGH_DESCRIBED, (case, answer)


@in_arena
@pytest.mark.parametrize(("name", "version"), SPOKEN)
@FEW
@given(data=st.data())
async def test_what_is_described_is_taken(arena: Arena, name: str, version: str, data: st.DataObject) -> None:
    """The gateway refuses nothing of what it describes; a provider may. A validator reads the document as the maker of
    cases does."""
    case = data.draw(described(OPERATIONS[name], version))
    if (schema := OPERATIONS[name].body.get("application/json")) is not None:
        assert not faults(json.loads(case.body), of_version(schema, version))
    await play(arena, case)


@in_arena
@pytest.mark.parametrize(("name", "version"), SPOKEN)
@FEW
@given(data=st.data())
async def test_what_is_wrong_gets_a_plain_answer(arena: Arena, name: str, version: str, data: st.DataObject) -> None:
    await play(arena, data.draw(broken(OPERATIONS[name], version)))


@pytest.mark.long
@in_arena
@pytest.mark.parametrize(("name", "version"), SPOKEN)
@MANY
@given(data=st.data())
async def test_many_requests_get_plain_answers(arena: Arena, name: str, version: str, data: st.DataObject) -> None:
    of = data.draw(st.sampled_from([described, broken, broken]))
    await play(arena, data.draw(of(OPERATIONS[name], version)))
