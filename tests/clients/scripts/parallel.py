"""Two calls at once, polled; outputs that do not fit them are refused and the right ones taken."""

from openai import BadRequestError

from tests.clients.scripts.shown import MODEL, POLL, WEATHER, calls_of, outputs_of, show_steps, show_thread


def run(client):
    assistant = client.beta.assistants.create(model=MODEL, instructions="Know the weather.", tools=[WEATHER])
    asked = 'At once call get_weather {"city": "Rome"} and call get_weather {"city": "Oslo"}'
    last = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": asked}]}, **POLL
    )
    print(f"run: {last.status}")
    outputs = outputs_of(calls_of(last))
    for wrong in (outputs[:1], [*outputs, outputs[0]], [{"tool_call_id": "call_unheard_of", "output": "?"}]):
        try:
            client.beta.threads.runs.submit_tool_outputs(last.id, thread_id=last.thread_id, tool_outputs=wrong)
        except BadRequestError as refused:
            print(f"{len(wrong)} outputs: {refused.status_code} {str(refused.body['message'])[:34]}")
    try:
        client.beta.threads.messages.create(last.thread_id, role="user", content="Hurry up")
    except BadRequestError as refused:
        print(f"a message meanwhile: {refused.status_code} {str(refused.body['message'])[:18]}")
    last = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=last.id, thread_id=last.thread_id, tool_outputs=outputs[::-1], **POLL
    )
    print(f"run: {last.status}")
    show_steps(client, last)
    show_thread(client, last.thread_id)
