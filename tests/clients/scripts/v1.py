"""A program that never left version 1 of the protocol."""

from tests.clients.scripts.shown import MODEL, WEATHER, calls_of, outputs_of

V1 = {"OpenAI-Beta": "assistants=v1"}  # newer SDKs have to be told
OVER = ("completed", "failed", "cancelled", "expired", "requires_action")


def wait_for(client, run):
    while run.status not in OVER:
        run = client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id, extra_headers=V1)
    print(f"run: {run.status}")
    return run


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, tools=[WEATHER], extra_headers=V1)
    thread = client.beta.threads.create(extra_headers=V1)
    asked = client.beta.threads.messages.create(
        thread.id, role="user", content='Please call get_weather {"city": "Zürich"}', extra_headers=V1
    )
    print(f"files: {assistant.file_ids} {asked.file_ids}, tool_resources: {getattr(assistant, 'tool_resources', None)}")
    last = client.beta.threads.runs.create(thread.id, assistant_id=assistant.id, extra_headers=V1)
    last = wait_for(client, last)
    last = client.beta.threads.runs.submit_tool_outputs(
        last.id, thread_id=thread.id, tool_outputs=outputs_of(calls_of(last)), extra_headers=V1
    )
    wait_for(client, last)
    newest = client.beta.threads.messages.list(thread.id, limit=1, extra_headers=V1).data[0]
    print(f"{newest.role}: {newest.content[0].text.value}")
