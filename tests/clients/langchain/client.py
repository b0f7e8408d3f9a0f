"""What a LangChain program does with an assistant: through its runnable, through an AgentExecutor, and asynchronously.
Address and key come from the environment; what it saw goes to standard output, one JSON object a line."""

import asyncio
import json
import os
from contextlib import suppress

from langchain_classic.agents import AgentExecutor
from langchain_classic.agents.openai_assistant import OpenAIAssistantRunnable
from langchain_core.tools import tool
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

is_azure = "AZURE_OPENAI_ENDPOINT" in os.environ
client, async_client = (AzureOpenAI(), AsyncAzureOpenAI()) if is_azure else (OpenAI(), AsyncOpenAI())
QUESTION = 'call get_weather {"city": "Zürich"} again get_weather {"city": "Oslo"}'


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


ASSISTANT = {
    "name": "Wetterfrosch",
    "instructions": "Know the weather.",
    "tools": [get_weather],
    "model": "gpt-4o",
    "client": client,
    "async_client": async_client,
    "check_every_ms": 10,
}


def saw(**facts):
    print(json.dumps(facts))


def asked(calls):
    return [[call.function.name, call.function.arguments] for call in calls]


def outputs_for(calls):
    answered = [(call.id, get_weather.invoke(json.loads(call.function.arguments))) for call in calls]
    return [{"tool_call_id": call_id, "output": output} for call_id, output in answered]


def by_hand():
    runnable = OpenAIAssistantRunnable.create_assistant(**ASSISTANT)
    thread = client.beta.threads.create()
    calls = runnable.invoke({"content": QUESTION, "thread_id": thread.id})
    [run] = client.beta.threads.runs.list(thread.id)
    again = runnable.invoke({"tool_outputs": outputs_for(calls), "run_id": run.id, "thread_id": thread.id})
    [message] = runnable.invoke({"tool_outputs": outputs_for(again), "run_id": run.id, "thread_id": thread.id})
    saw(asked=asked(calls), asked_again=asked(again), answered=message.content[0].text.value)
    saw(run_ids=[run.id, message.run_id], message_ids=[message.id], thread_ids=[thread.id, message.thread_id])
    saw(assistant_ids=[runnable.assistant_id, message.assistant_id])
    # A runnable's stream is what its invoke gives, in one piece: it has no events of the run.
    [[message]] = list(runnable.stream({"content": "hello", "thread_id": thread.id}))
    saw(streamed=message.content[0].text.value)


def in_an_executor():
    agent = OpenAIAssistantRunnable.create_assistant(**ASSISTANT, as_agent=True)
    executor = AgentExecutor(agent=agent, tools=[get_weather], return_intermediate_steps=True)
    done = executor.invoke({"content": QUESTION})
    steps = [[action.tool_input, output] for action, output in done["intermediate_steps"]]
    saw(executed=done["output"], executed_steps=steps, thread_ids=[done["thread_id"]])
    then = executor.invoke({"content": "hello", "thread_id": done["thread_id"]})
    saw(executed_then=then["output"], stayed=then["thread_id"] == done["thread_id"])


async def asynchronously():
    agent = await OpenAIAssistantRunnable.acreate_assistant(**ASSISTANT, as_agent=True)
    [first] = await agent.ainvoke({"content": QUESTION})
    [second] = await agent.ainvoke({"intermediate_steps": [(first, "snow")]})
    with suppress(AttributeError):  # langchain-classic 1.0.8 cannot read the messages of a completed run here
        await agent.ainvoke({"intermediate_steps": [(second, "fog")]})
    messages = await async_client.beta.threads.messages.list(second.thread_id, run_id=second.run_id)
    saw(awaited=[first.tool_input, second.tool_input], awaited_end=messages.data[0].content[0].text.value)


by_hand()
in_an_executor()
asyncio.run(asynchronously())
