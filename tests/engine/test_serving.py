"""Served threads through the whole gateway, as programs use them: the official SDK, unchanged."""

from __future__ import annotations

import pytest

from tests.engine.conftest import Stage
from tests.engine.scripted_model import says

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK marks every Assistants method so


async def test_a_run_is_polled_to_its_end(stage: Stage) -> None:
    thread = await stage.thread("What is 1 + 1?")
    stage.model.script.append(says("It ", "is 2."))
    run = await stage.sdk.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=stage.assistant, poll_interval_ms=20
    )
    assert run.status == "completed", run.last_error
    assert run.usage is not None
    assert run.usage.total_tokens == 15
    messages = await stage.sdk.beta.threads.messages.list(thread)
    assert [each.content[0].text.value for each in messages.data] == ["It is 2.", "What is 1 + 1?"]  # type: ignore[union-attr]
