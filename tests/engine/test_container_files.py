"""One id for a file and its container, and what is no such id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.container_files import join_file, split_file, with_one_id
from tests.values import unhurried

names = st.text(min_size=1, max_size=60)


@unhurried
@given(names, names)
def test_what_was_joined_is_split_again(file: str, container: str) -> None:
    assert split_file(join_file(file, container)) == (file, container)


@pytest.mark.parametrize(
    "other",
    [
        "file-abc123",
        "file-cntr-",
        "file-cntr-4-",
        "file-cntr-4-cntr",
        "file-cntr-0-cfile_1",
        "cfile_1",
        "",
        "assistant-1",
    ],
)
def test_other_files_are_left_alone(other: str) -> None:
    """An empty container or file is none."""
    assert split_file(other) is None


def test_a_file_without_a_container_keeps_its_id() -> None:
    assert with_one_id({"file_id": "file-1"}) == {"file_id": "file-1"}
    assert with_one_id({"file_id": "cfile_1", "container_id": "cntr_1"}) == {"file_id": "file-cntr-6-cntr_1cfile_1"}
