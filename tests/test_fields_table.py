"""The README's table of what reaches a model says what requests say."""

from __future__ import annotations

from tests import fields_table


def test_the_readme_has_it() -> None:
    """If not: `python -m tests.fields_table`."""
    text = fields_table.README.read_text()
    assert fields_table.written(text) == text


def test_a_cell_is_what_a_field_changes_in_a_request() -> None:
    lines = fields_table.render().splitlines()
    cells = {
        name: cell
        for _, name, cell, *_ in ([part.strip() for part in line.split("|")] for line in lines if "|" in line)
    }
    assert cells["max_completion_tokens"] == "`max_completion_tokens`"
    assert cells["tool_choice `required`"] == '`tool_choice: "required"`'
    assert cells["image_file"] == "refused"
