"""A stream that is cut off after its first words and taken up again where it was."""

import json

from tests.clients.scripts.shown import MODEL, show_events


def read(response):
    """(id, name, data) of each event of a stream."""
    event = {}
    for line in response.iter_lines():
        name, colon, value = line.partition(": ")
        if colon:
            event[name] = value
        elif event:
            yield event.get("id"), event["event"], event["data"]
            event = {}


def words(data):
    return "".join(part["text"]["value"] for part in json.loads(data)["delta"]["content"])


def run(client):
    names, text, last_id = [], "", ""
    assistant = client.beta.assistants.create(model=MODEL)
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "Tell me a story of seven words."}])
    runs = client.beta.threads.runs.with_streaming_response
    with runs.create(thread.id, assistant_id=assistant.id, stream=True) as response:
        for event_id, name, data in read(response):
            last_id = event_id
            names.append(name)
            if name == "thread.message.delta":
                text += words(data)
                break
    show_events(names)
    print("… the connection is gone; what came behind it:")
    [cut] = client.beta.threads.runs.list(thread.id)
    names = []
    with runs.retrieve(
        cut.id, thread_id=thread.id, extra_query={"stream": "true"}, extra_headers={"Last-Event-ID": last_id}
    ) as response:
        for _, name, data in read(response):
            names.append(name)
            text += words(data) if name == "thread.message.delta" else ""
    show_events(names)
    [message] = client.beta.threads.messages.list(thread.id, run_id=cut.id)
    print(f"nothing twice, nothing missed: {text == message.content[0].text.value}")
