"""A conversation in two turns; each run is polled to its end."""

from tests.clients.scripts.shown import MODEL, POLL, show_steps, show_thread


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, name="Echo", instructions="Repeat what you hear.")
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "Grüezi, how are you?"}])
    first = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **POLL)
    print(f"run: {first.status}")
    client.beta.threads.messages.create(thread.id, role="user", content="And what is new?")
    second = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **POLL)
    print(f"run: {second.status}")
    if (usage := second.usage) is not None:  # not every vendor counts
        assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
    show_thread(client, thread.id)
    show_steps(client, second)
    print(f"runs: {len(client.beta.threads.runs.list(thread.id).data)}")
    print(f"deleted: {client.beta.threads.delete(thread.id).deleted}")
