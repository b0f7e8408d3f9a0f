"""Ids of calls in a request: the vendor's own stay, others are replaced, and none stands twice."""

from __future__ import annotations

import re

from gateway.engine.models.call_ids import CallIds
from tests.engine.models.values import round_of

FORM = re.compile("[a-z_0-9]{1,40}")


def test_an_id_that_fits_stays() -> None:
    assert CallIds(FORM).of(round_of(call_a="1", call_b=None)) == {"call_a": "call_a", "call_b": "call_b"}


def test_what_does_not_fit_is_replaced_by_the_same_each_time() -> None:
    sent = [CallIds(FORM).of(round_of(**{"": "1", "a b": "2", "\ud83e": "3"})) for _ in range(2)]
    assert sent[0] == sent[1]
    assert len(set(sent[0].values())) == 3
    assert all(FORM.fullmatch(each) for each in sent[0].values())


def test_an_id_that_comes_again_is_another() -> None:
    ids = CallIds(FORM)
    sent = [ids.of(round_of(call_a="1"))["call_a"] for _ in range(3)]
    assert sent[0] == "call_a"
    assert len(set(sent)) == 3
    assert all(FORM.fullmatch(each) for each in sent)


def test_some_vendors_count_the_letters() -> None:
    sent = CallIds(re.compile("[A-Z2-7]{9}"), letters=9).of(round_of(call_a="1", ABCDEFGHI="2"))
    assert sent["ABCDEFGHI"] == "ABCDEFGHI"
    assert re.fullmatch("[A-Z2-7]{9}", sent["call_a"])
