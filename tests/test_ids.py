"""Ids that carry their own address: what verifies, and all that must not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ids import TAIL_LENGTH, IdSigner, SignedId, route_of
from tests.values import any_text, unhurried

KEYS = [b"the first signing key", b"the second signing key"]
ROUTE = "Xk4p"
SIGNER = IdSigner(KEYS)


def sign(upstream: str, key: int = 0, tenant: str = "alice", kind: str = "thread") -> str:
    return SIGNER.sign(upstream, kind=kind, tenant=tenant, route=ROUTE, key=key)


def verify(public: str, signer: IdSigner = SIGNER) -> SignedId | None:
    return signer.verify(public, kind="thread", tenant="alice")


usual_ids = st.from_regex(r"(thread_|asst_|file-|)[A-Za-z0-9_-]{1,30}", fullmatch=True)
upstream_ids = (
    usual_ids
    | any_text.filter(bool)
    | st.from_regex(r"[A-Za-z0-9]{4}[0-9a-f]{20}", fullmatch=True)  # nothing but what looks like a tail
    | usual_ids.map(sign)  # looks like a public id, and is one
    | usual_ids.map(lambda upstream: sign(upstream)[:-1])
)


@pytest.mark.parametrize(
    ("key", "upstream", "kind", "tenant", "public"),
    [
        (b"a golden signing key", "thread_abc123", "thread", "alice", "thread_abc123ap0Yab9d4efcf0d7b297ee8a"),
        (b"a golden signing key", "Fäden 🧵", "run", "Bob", "Fäden 🧵ap0Y7d616663dec38e1b17aa"),  # beyond ASCII
        (b"k" * 64, "file-1", "file", "alice", "file-1ap0Y0dadccd2482252f5aad8"),  # as long as BLAKE2b takes
        (b"k" * 65, "file-1", "file", "alice", "file-1ap0Y96b7f36b84a3f7bba42e"),  # longer
        (b"k" * 100, "file-1", "file", "alice", "file-1ap0Yea83ff6e16f7ec6a6f70"),
    ],
)
def test_ids_issued_today_verify_for_ever(key: bytes, upstream: str, kind: str, tenant: str, public: str) -> None:
    """Should this fail, every id that callers hold is lost: do not change the expectation, restore the algorithm."""
    signer = IdSigner([key])
    assert signer.sign(upstream, kind=kind, tenant=tenant, route=route_of("openai", "main")) == public
    assert signer.verify(public, kind=kind, tenant=tenant) == SignedId(upstream, "ap0Y", 0)


@unhurried
@given(upstream_ids, st.sampled_from([0, 1]))
def test_an_id_verifies_and_says_what_it_was_made_of(upstream: str, key: int) -> None:
    assert verify(sign(upstream, key)) == SignedId(upstream, ROUTE, key)


@unhurried
@given(upstream_ids)
def test_the_same_id_is_always_spelt_the_same(upstream: str) -> None:
    """Also by another process, and whatever was signed before."""
    assert sign(upstream) == IdSigner(KEYS).sign(upstream, kind="thread", tenant="alice", route=ROUTE)


@unhurried
@given(upstream_ids)
def test_the_tail_is_letters_and_digits_of_one_length(upstream: str) -> None:
    public = sign(upstream)
    assert public.startswith(upstream)
    assert re.fullmatch(rf"[A-Za-z0-9]{{{TAIL_LENGTH}}}", public[len(upstream) :])


@pytest.mark.parametrize("pattern", [r"run_\w+", r"run_[A-Za-z0-9]+", r"\brun_\S+\b"])
def test_patterns_of_clients_match_a_whole_id(pattern: str) -> None:
    public = sign("run_abc123", kind="run")
    assert re.findall(pattern, f"Thread x already has an active run {public}.") == [public]


@unhurried
@given(usual_ids, st.data())
def test_an_id_changed_in_any_character_is_refused(upstream: str, data: st.DataObject) -> None:
    public = sign(upstream)
    other = data.draw(st.sampled_from("aAf09zZ_-é\ud800 "))
    for place, character in enumerate(public):
        before, after = public[:place], public[place + 1 :]
        assert character == other or verify(before + other + after) is None
        assert verify(before + after) is None  # one character less
        assert verify(before + other + public[place:]) is None  # one more
        assert character.swapcase() == character or verify(before + character.swapcase() + after) is None


@unhurried
@given(usual_ids)
def test_a_part_of_an_id_is_refused(upstream: str) -> None:
    public = sign(upstream)
    for place in range(1, len(public)):
        assert verify(public[:-place]) is None
        assert verify(public[place:]) is None
    assert verify(public + " ") is None


@unhurried
@given(any_text)
def test_what_was_never_issued_is_refused(text: str) -> None:
    assert verify(text) is None


def test_a_tail_alone_is_no_id() -> None:
    """An upstream id is never empty, so a tail that signs the empty text says nothing."""
    assert verify(sign("")) is None


@pytest.mark.parametrize(
    ("tenant", "kind"),
    [
        ("bob", "thread"),  # another tenant's
        ("alice", "run"),  # another kind
        ("alicet", "hread"),  # the same letters, divided otherwise
        ("alic", "ethread"),
        ("", "alicethread"),
        ("Alice", "thread"),
    ],
)
def test_an_id_is_good_for_its_own_tenant_and_kind_only(tenant: str, kind: str) -> None:
    public = sign("thread_abc123")
    assert SIGNER.verify(public, kind=kind, tenant=tenant) is None
    assert sign("thread_abc123", tenant=tenant, kind=kind) != public


def test_an_id_cannot_be_moved_to_another_account() -> None:
    public = sign("thread_abc123")
    assert verify(public.replace(ROUTE, "Yk4p")) is None


def test_every_key_verifies_and_says_which() -> None:
    old, new = sign("thread_1"), sign("thread_1", key=1)
    assert old != new
    rotated = IdSigner([b"a third signing key.", *reversed(KEYS)])
    places = [found.key for found in (verify(old, rotated), verify(new, rotated)) if found]
    assert places == [2, 1]
    assert verify(old, IdSigner(KEYS[1:])) is None


def test_a_signer_does_not_show_its_keys() -> None:
    sign("thread_1")
    for key in KEYS:
        assert key.decode() not in repr(SIGNER) + str(SIGNER)


@pytest.mark.parametrize("keys", [[], [b""], [b"k" * 15], [*KEYS, b"k" * 15]])
def test_short_keys_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes") as refused:
        IdSigner(keys)
    assert "kkk" not in str(refused.value)


def test_a_key_of_sixteen_bytes_is_enough() -> None:
    assert IdSigner([b"k" * 16]).sign("thread_1", kind="thread", tenant="alice", route=ROUTE)


@pytest.mark.parametrize(
    ("provider", "account", "route"),
    [("openai", "main", "ap0Y"), ("aimlapi", "main", "qMBs"), ("openai", "other", "3v9Z")],
)
def test_a_route_stays_as_it_is(provider: str, account: str, route: str) -> None:
    """Routes stand in issued ids: like the ids themselves they may never change."""
    assert route_of(provider, account) == route


@unhurried
@given(any_text, any_text)
def test_a_route_is_four_letters_or_digits(provider: str, account: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{4}", route_of(provider, account))


def test_a_route_knows_where_the_provider_ends() -> None:
    assert len({route_of(*names) for names in [("ab", "c"), ("a", "bc"), ("abc", ""), ("c", "ab")]}) == 4
