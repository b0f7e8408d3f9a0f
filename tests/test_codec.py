"""JSON in and out: a caller's words reach the provider as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import DuplicateName, dumps, is_deeper_than, loads, refuse_hidden_names
from tests.values import any_json, unhurried


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"a":null,"b":[true,false],"c":{"d":""}}',
        '"Grüße, 世界 👋"'.encode(),
        b'"\xe2\x80\xa8\xe2\x80\xa9"',  # U+2028 and U+2029 may stand in JSON as they are
        rb'"\ud800"',  # a lone surrogate
        rb'{"\udfff":"x\ud83d"}',
        b"18446744073709551615",  # the last integer of 64 bits
        b"18446744073709551616",
        b"-9223372036854775809",
        b'{"n":' + b"9" * 4000 + b"}",
        rb'[123456789012345678901234567890,"\udc00"]',
        b"[0.1,-0.0,1e-7,0.30000000000000004,5e-324]",
        b'{"id":"12345678901234567890"}',  # digits in a text are no number
    ],
)
def test_what_comes_in_goes_out_unchanged(raw: bytes) -> None:
    assert dumps(loads(raw)) == raw


@pytest.mark.parametrize("beside", ["", r', "\ud800"', ", 12345678901234567890123"])
@pytest.mark.parametrize(
    "wrong",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", ".5", "+1", "'a'", '"\t"', r'"\x41"', "1,", "tru"],
)
def test_what_is_not_json_is_refused_by_either_parser(wrong: str, beside: str) -> None:
    with pytest.raises(ValueError):
        loads(f"[{wrong}{beside}]".encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{}{}",
        b'{"a":1,}',
        b"\xef\xbb\xbf{}",  # a byte order mark
        b'"\xff"',  # not UTF-8
        b'"\xff\\u0041"',
        b'"\xed\xa0\x80"',  # a surrogate in UTF-8's clothes
        '{"a":1}'.encode("utf-16"),
        b"9" * 5000,  # more digits than Python turns into a number
        b"[" * 100_000,
        b'["\\ud800",' + b"[" * 100_000,
        b"[" * 5000 + b"]" * 5000,
        b'["\\ud800",' + b"[" * 5000 + b"]" * 5001,
    ],
)
def test_broken_input_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        loads(raw)


@unhurried
@given(any_json, st.booleans())
def test_reading_agrees_with_the_standard_library(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written escaped
        raw = json.dumps(value).encode()
    # Compared as text: 1, 1.0 and true are equal in Python and not in JSON.
    assert json.dumps(loads(raw)) == json.dumps(json.loads(raw)) == json.dumps(value)


@unhurried
@given(any_json)
def test_writing_agrees_with_the_standard_library(value: Any) -> None:
    assert json.dumps(json.loads(dumps(value))) == json.dumps(value)


@pytest.mark.parametrize("levels", [200, 300, 1000])
def test_what_could_be_read_can_be_written(levels: int) -> None:
    """However deep: orjson itself reads deeper than it writes."""
    raw = b"[" * levels + b"]" * levels
    assert dumps(loads(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'{"a":{"b":1}}', 2),
        (b'{"a":[{"b":[]}]}', 4),
        (b"[[],[],[],[[]]]", 3),  # many brackets, few levels
        (b'["[[[[[[[[[["]', 1),  # brackets in a text
        (b'{"[[[[":{"{{{{":1}}', 2),
    ],
)
def test_depth_is_counted_in_levels(raw: bytes, levels: int) -> None:
    value = json.loads(raw)
    assert [limit for limit in range(12) if is_deeper_than(value, raw, limit)] == list(range(levels))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (rb'{"file_id":"a","file_id":"b"}', "file_id"),
        (rb'{"a":[{"file_ids":[],"file_ids":["b"]}]}', "file_ids"),
        (rb'{"file_id":"a","file\u005fid":"b"}', "file_id"),
        (rb'{"file\u005Fid":"a","fil\u0065_id":"b"}', "file_id"),
        (rb'{"\u0066\u0069\u006c\u0065\u005f\u0069\u0064":1,"\u0066ile\u005fid":2}', "file_id"),
        # The outer one of two may hide the inner id.
        (rb'{"thread":{},"thread":{"messages":[{"file_ids":["b"]}]}}', "thread"),
        (rb'{"metadata":{"a":1,"a":2},"file_id":"a"}', "a"),
        (rb'{"x":1,"x":1,"\ud800_id":1}', "x"),
    ],
)
def test_a_name_that_stands_twice_cannot_hide_an_id(raw: bytes, name: str) -> None:
    with pytest.raises(DuplicateName) as refused:
        refuse_hidden_names(raw, [b"_id"])
    assert refused.value.name == name


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"file_id":null,"other_id":1}',
        b'{"a":1,"a":2}',  # no id far and wide: the vendor may judge
        b'[{"file_id":"a"},{"file_id":"b"}]',  # twice, but in two objects
        b'{"file_id":"file_id","a":"file_id"}',  # words, not names
        rb'{"a":"\u00e9","b":"\u00E9"}',
        rb'{"file_id":"\u0041","File_id":"b"}',
    ],
)
def test_honest_bodies_pass(raw: bytes) -> None:
    refuse_hidden_names(raw, [b"_id"])
