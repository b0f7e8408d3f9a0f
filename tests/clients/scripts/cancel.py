"""A run that is cancelled while it speaks, and one that waits for outputs."""

from openai import BadRequestError

from tests.clients.scripts.shown import MODEL, POLL, WEATHER, show_events


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, tools=[WEATHER])
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "Count slowly to a hundred: one two three four five six seven eight"}]
    )
    names, is_cancelled = [], False
    with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        for event in stream:
            names.append(event.event)
            if event.event == "thread.message.delta" and not is_cancelled:
                is_cancelled = True
                [speaking] = client.beta.threads.runs.list(thread.id)
                client.beta.threads.runs.cancel(speaking.id, thread_id=thread.id)
    show_events(names)
    [message] = client.beta.threads.messages.list(thread.id, run_id=speaking.id)
    print(f"kept: {message.status}, {message.incomplete_details.reason}, {len(message.content[0].text.value) > 0}")

    client.beta.threads.messages.create(thread.id, role="user", content='Now call get_weather {"city": "Rome"}')
    waiting = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **POLL)
    print(f"run: {waiting.status}")
    cancelled = client.beta.threads.runs.cancel(waiting.id, thread_id=thread.id)
    print(f"run: {cancelled.status}")
    try:
        client.beta.threads.runs.cancel(waiting.id, thread_id=thread.id)
    except BadRequestError as refused:
        print(f"once more: {refused.status_code} {refused.body['message']}")
