"""An answer as it is written, through the SDK's own event handler."""

from openai import AssistantEventHandler

from tests.clients.scripts.shown import MODEL, show_events


class Handler(AssistantEventHandler):
    def __init__(self):
        super().__init__()
        self.names = []
        self.text = ""

    def on_event(self, event):
        self.names.append(event.event)

    def on_text_delta(self, delta, snapshot):
        self.text += delta.value
        assert snapshot.value == self.text

    def on_text_done(self, text):
        print(f"done: {text.value}")


def run(client):
    assistant = client.beta.assistants.create(model=MODEL)
    handler = Handler()
    with client.beta.threads.create_and_run_stream(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Say it in pieces, s'il vous plaît: ❄ und 🌧️"}]},
        event_handler=handler,
    ) as stream:
        stream.until_done()
        final = stream.get_final_run()
        [message] = stream.get_final_messages()
    show_events(handler.names)
    print(f"run: {final.status}, pieces make the message: {handler.text == message.content[0].text.value}")
