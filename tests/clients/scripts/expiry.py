"""A run whose outputs never come: it expires ten minutes after it was made."""

import time

from tests.clients.scripts.shown import MODEL, POLL, WEATHER, show_steps


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, tools=[WEATHER])
    waiting = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": 'Please call get_weather {"city": "Rome"}'}]},
        **POLL,
    )
    print(f"run: {waiting.status}")
    last = waiting
    while last.status == "requires_action":
        time.sleep(0.5)
        last = client.beta.threads.runs.retrieve(last.id, thread_id=last.thread_id)
    print(f"run: {last.status}, waits for nothing more: {last.required_action is None}")
    show_steps(client, last)
