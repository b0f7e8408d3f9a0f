"""What the scripts have in common: a tool, and how things are printed. Ids differ from run to run and are not shown."""

import json
import os

MODEL = os.environ.get("MODEL", "gpt-4o")
POLL = {"poll_interval_ms": 50}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SKY = {"Zürich": "12 °C, fog", "Oslo": "-3 °C ❄", "Rome": "21 °C"}


def get_weather(city):
    return SKY.get(city, "no such city")


def calls_of(run):
    return run.required_action.submit_tool_outputs.tool_calls


def outputs_of(calls):
    """Prints the calls, makes them and gives what is to be submitted."""
    outputs = []
    for call in calls:
        arguments = json.loads(call.function.arguments)
        print(f"the model calls {call.function.name}({json.dumps(arguments, ensure_ascii=False)})")
        outputs.append({"tool_call_id": call.id, "output": get_weather(**arguments)})
    return outputs


def show_thread(client, thread_id):
    for message in client.beta.threads.messages.list(thread_id, order="asc"):
        said = " | ".join(part.text.value for part in message.content)
        print(f"{message.role}: {said}")


def show_steps(client, run):
    for step in client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc"):
        print(f"step: {step.type} {step.status}")


def show_events(names):
    """Each name once for as many of its kind as follow each other: how finely a model streams is its own affair."""
    for place, name in enumerate(names):
        if place == 0 or names[place - 1] != name:
            print(f"event: {name}")
