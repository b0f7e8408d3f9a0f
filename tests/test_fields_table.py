"""The README's table of what reaches a model says what requests say."""

from __future__ import annotations

from gateway.engine.models import MODEL_APIS
from tests import fields_table


def test_the_readme_has_it() -> None:
    """If not: `python -m tests.fields_table`."""
    text = fields_table.README.read_text()
    assert fields_table.written(text) == text


def test_a_cell_is_what_a_field_changes_in_a_request() -> None:
    cells = {row.name: fields_table.cell(MODEL_APIS["chat_completions"]["openai"], row) for row in fields_table.FIELDS}
    assert cells["max_completion_tokens"] == "`max_completion_tokens`"
    assert cells["tool_choice `required`"] == '`tool_choice: "required"`'
    assert cells["response_format `json_schema`"] == "`response_format.json_schema`"
    assert cells["image_file"] == "refused"
