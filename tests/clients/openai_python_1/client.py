"""What a program of the SDK's last 1.x does with the Assistants API. Address and key come from the environment, as the
SDK reads them; what it saw goes to standard output, one JSON object a line."""

import json
import os

from openai import APIError, AssistantEventHandler, AzureOpenAI, NotFoundError, OpenAI

client = AzureOpenAI() if "AZURE_OPENAI_ENDPOINT" in os.environ else OpenAI()
POLL = {"poll_interval_ms": 10}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def saw(**facts):
    print(json.dumps(facts))


class Listener(AssistantEventHandler):
    def __init__(self):
        super().__init__()
        self.events, self.deltas, self.text, self.calls = [], [], None, []

    def on_event(self, event):
        self.events.append(event.event)

    def on_text_delta(self, delta, snapshot):
        self.deltas.append(delta.value)

    def on_text_done(self, text):
        self.text = text.value

    def on_tool_call_done(self, tool_call):
        self.calls.append([tool_call.function.name, tool_call.function.arguments])


def outputs_for(run, output):
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": output} for call in calls]


def last_text(run):
    [message] = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data
    return message.content[0].text.value


assistant = client.beta.assistants.create(model="gpt-4o", name="Wetterfrosch", tools=[WEATHER])
others = [client.beta.assistants.create(model="gpt-4o").id for _ in range(3)]
saw(assistant=assistant.name, model=assistant.model, assistant_ids=[assistant.id, *others])

thread = client.beta.threads.create(metadata={"ticket": "thread_1"})
question = client.beta.threads.messages.create(
    thread.id, role="user", content='Grüezi: call get_weather {"city": "Zürich"}'
)
saw(thread_ids=[thread.id, question.thread_id], metadata=thread.metadata)

run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **POLL)
calls = run.required_action.submit_tool_outputs.tool_calls
saw(polled=run.status, polled_calls=[[call.function.name, call.function.arguments] for call in calls])
run = client.beta.threads.runs.submit_tool_outputs_and_poll(
    run_id=run.id, thread_id=thread.id, tool_outputs=outputs_for(run, "12 °C"), **POLL
)
saw(polled_end=run.status, polled_text=last_text(run), run_ids=[run.id])

client.beta.threads.messages.create(thread.id, role="user", content='call get_weather {"city": "Oslo"}')
with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=(listener := Listener())
) as stream:
    stream.until_done()
    run = stream.get_final_run()
saw(streamed=run.status, streamed_events=listener.events, streamed_calls=listener.calls)
with client.beta.threads.runs.submit_tool_outputs_stream(
    run_id=run.id,
    thread_id=thread.id,
    tool_outputs=outputs_for(run, "-3 °C ❄"),
    event_handler=(listener := Listener()),
) as stream:
    stream.until_done()
    run = stream.get_final_run()
    [message] = stream.get_final_messages()
saw(streamed_end=run.status, streamed_end_events=listener.events, message_ids=[message.id])
saw(streamed_deltas=listener.deltas, streamed_text=listener.text, streamed_kept=last_text(run) == listener.text)

again = {"messages": [{"role": "user", "content": "hello"}]}
with client.beta.threads.create_and_run_stream(assistant_id=assistant.id, thread=again) as stream:
    saw(iterated="".join(stream.text_deltas))

broken = {"messages": [{"role": "user", "content": "break off"}]}
try:
    with client.beta.threads.create_and_run_stream(assistant_id=assistant.id, thread=broken) as stream:
        stream.until_done()
        saw(broken=stream.get_final_run().last_error.message)
except APIError as error:
    saw(broken=error.message)

first = client.beta.threads.messages.list(thread.id, order="asc", limit=1)
after = client.beta.threads.messages.list(thread.id, order="asc", limit=2, after=first.last_id)
saw(
    page=[message.role for message in first.data],
    next_page=[message.role for message in after.data],
    has_more=[first.has_more, after.has_more],
    all_pages=[message.role for message in after],
    steps=[step.type for step in client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc")],
    runs=len(list(client.beta.threads.runs.list(thread.id, limit=1))),
    listed=[each.id for each in client.beta.assistants.list(order="asc", limit=2)] == [assistant.id, *others],
)

if "WITHOUT_FILES" not in os.environ:
    file = client.files.create(file=("nötes.txt", b"Schnee\r\n"), purpose="assistants")
    saw(file=[file.filename, client.files.content(file.id).text], file_ids=[file.id])
    client.files.delete(file.id)

saw(deleted=[client.beta.threads.delete(thread.id).deleted, client.beta.assistants.delete(assistant.id).deleted])
try:
    client.beta.threads.retrieve(thread.id)
except NotFoundError as error:
    saw(missing=error.body["message"].replace(thread.id, "…"))
