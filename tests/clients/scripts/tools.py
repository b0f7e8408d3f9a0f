"""Tools in several rounds, streamed: the handler answers the calls from within, as OpenAI's guide had it."""

from openai import AssistantEventHandler

from tests.clients.scripts.shown import MODEL, WEATHER, calls_of, outputs_of, show_steps, show_thread


class Handler(AssistantEventHandler):
    def __init__(self, client):
        super().__init__()
        self.client = client

    def on_text_done(self, text):
        print(f"done: {text.value}")

    def on_event(self, event):
        if event.event in ("thread.run.requires_action", "thread.run.completed"):
            print(f"event: {event.event}")
        if event.event == "thread.run.requires_action":
            with self.client.beta.threads.runs.submit_tool_outputs_stream(
                thread_id=event.data.thread_id,
                run_id=event.data.id,
                tool_outputs=outputs_of(calls_of(event.data)),
                event_handler=Handler(self.client),
            ) as stream:
                stream.until_done()


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, instructions="Know the weather.", tools=[WEATHER])
    thread = client.beta.threads.create()
    client.beta.threads.messages.create(
        thread.id,
        role="user",
        content='First call get_weather {"city": "Zürich"} and then again get_weather {"city": "Oslo"}',
    )
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Handler(client)
    ) as stream:
        stream.until_done()
    [last] = client.beta.threads.runs.list(thread.id)
    print(f"run: {last.status}")
    show_steps(client, last)
    show_thread(client, thread.id)
