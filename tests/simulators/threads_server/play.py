"""Lets a run act: asks the pretend model what to do and writes the steps and messages that come of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.demo.model import split_words
from tests.simulators.threads_server import model
from tests.simulators.threads_server.files import Content, Files
from tests.simulators.threads_server.ground import Plain
from tests.simulators.threads_server.refusal import Json
from tests.simulators.threads_server.run import Run
from tests.simulators.threads_server.stores import Stores
from tests.simulators.threads_server.threads import Thread, new_message, text_part

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63a8070000"
    "810080d394534a0000000049454e44ae426082"
)
OUTPUT_PATH = "sandbox:/mnt/data/plot.csv"

MESSAGE_REASONS = {"failed": "run_failed", "incomplete": "max_tokens", "expired": "run_expired"}
"""Why a message is incomplete, by the status that the run ends in."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text, and the annotation it is the marker of."""

    text: str
    annotation: Json | None = None


@dataclass(frozen=True)
class Speech:
    """A message to be: images first, then the text in the pieces in which it is streamed."""

    pieces: list[Piece]
    image_ids: tuple[str, ...] = ()


def act(thread: Thread, run: Run, files: Files, stores: Stores) -> None:
    """Take the run from in_progress to requires_action or to its end."""
    tools = run.json["tools"]
    plan = model.decide(
        run.prompt,
        tools={tool["type"] for tool in tools},
        functions={tool["function"]["name"] for tool in tools if "function" in tool},
        rounds=run.rounds,
    )
    if plan.calls:
        ask_for_outputs(run, plan.calls)
        return
    speech = Speech([Piece(word) for word in split_words(plan.text)])
    if plan.plots:
        speech = plot(run, files)
    elif plan.searches:
        speech = search(thread, run, stores)
    speak(thread, run, speech, plan.ending)


def ask_for_outputs(run: Run, calls: tuple[tuple[str, str], ...]) -> None:
    step = run.open_step("tool_calls", [])
    asked = []
    for place, (name, arguments) in enumerate(calls):
        call = {"id": run.ground.ids.new("call"), "type": "function"}
        opening = {"name": name, "arguments": "", "output": None}
        run.tell_step_delta(step, {"index": place, **call, "function": opening})
        run.tell_step_delta(step, {"index": place, "type": "function", "function": {"arguments": arguments}})
        step["step_details"]["tool_calls"].append(call | {"function": opening | {"arguments": arguments}})
        asked.append(call | {"function": {"name": name, "arguments": arguments}})
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}
    run.move("requires_action", required_action=action)


def plot(run: Run, files: Files) -> Speech:
    """Run code that leaves an image, which the message shows, and a table, which it links to."""
    image = keep_output(files, Content(PNG, "image/png", "plot.png"))
    table = keep_output(files, Content(b"x,y\n1,1\n", "text/csv", "plot.csv"))
    outputs: list[Json] = [
        {"type": "logs", "logs": "saved plot.csv\n"},
        {"type": "image", "image": {"file_id": image}},
    ]
    code = "plot(1, 1)\nsave('plot.csv')"
    call = {"id": run.ground.ids.new("call"), "type": "code_interpreter"}
    step = run.open_step("tool_calls", [])
    run.tell_step_delta(step, {"index": 0, **call, "code_interpreter": {"input": "", "outputs": []}})
    for line in code.splitlines(keepends=True):
        run.tell_step_delta(step, {"index": 0, "type": call["type"], "code_interpreter": {"input": line}})
    for place, output in enumerate(outputs):
        shown = {"outputs": [{"index": place, **output}]}
        run.tell_step_delta(step, {"index": 0, "type": call["type"], "code_interpreter": shown})
    finish_call(run, step, call | {"code_interpreter": {"input": code, "outputs": outputs}})
    link = {"type": "file_path", "file_path": {"file_id": table}}
    return Speech([Piece("Here is the plot: [table]("), Piece(OUTPUT_PATH, link), Piece(").")], (image,))


def keep_output(files: Files, content: Content) -> str:
    """The id of a file that the model made."""
    return str(files.keep(content, "assistants_output", counted_as="output_file").json["id"])


def finish_call(run: Run, step: Json, call: Json) -> None:
    step["step_details"]["tool_calls"].append(call)
    run.close_step(step, "completed")


def search(thread: Thread, run: Run, stores: Stores) -> Speech:
    """Search the stores of the run and of the thread, and cite the best file."""
    sources = [holder["tool_resources"].get("file_search", {}) for holder in (run.json, thread.json)]
    found = stores.find_passages([each for one in sources for each in one.get("vector_store_ids") or []])
    call = {"id": run.ground.ids.new("call"), "type": "file_search"}
    ranking = {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    step = run.open_step("tool_calls", [])
    run.tell_step_delta(step, {"index": 0, **call, "file_search": {}})
    finish_call(run, step, call | {"file_search": {"ranking_options": ranking, "results": found}})
    if not found:
        return Speech([Piece("Nothing was found.")])
    citation = {"type": "file_citation", "file_citation": {"file_id": found[0]["file_id"]}}
    marker = Piece(f"【4:0†{found[0]['file_name']}】", citation)
    return Speech([Piece("It is "), Piece("written here"), marker, Piece(".")])


def speak(thread: Thread, run: Run, speech: Speech, ending: str) -> None:
    """Stream a message and end the run; unless it ends completed, the message breaks off half way."""
    ground = run.ground
    message = new_message(ground, thread, "assistant", [])
    message.update(assistant_id=run.json["assistant_id"], run_id=run.json["id"])
    step = run.open_step("message_creation", {"message_id": message["id"]})
    thread.messages.put(Plain(message), counted_as="reply")
    run.tell("thread.message.created", message)
    run.tell("thread.message.in_progress", message)
    if ending != "completed":
        speech = Speech(speech.pieces[: (len(speech.pieces) + 1) // 2], speech.image_ids)
    for delta in deltas(speech):
        event = {"id": message["id"], "object": "thread.message.delta", "delta": {"content": [delta]}}
        run.tell("thread.message.delta", event)
    message["content"] = compose(speech)
    if ending == "completed":
        message.update(status="completed", completed_at=ground.now())
    else:
        reason = {"reason": MESSAGE_REASONS[ending]}
        message.update(status="incomplete", incomplete_at=ground.now(), incomplete_details=reason)
    run.tell(f"thread.message.{message['status']}", message)
    end(run, step, ending)


def end(run: Run, step: Json, ending: str) -> None:
    if ending == "failed":
        text = f"Sorry, something went wrong with {run.json['id']} in {run.json['thread_id']}."
        error = {"code": "server_error", "message": text}
        run.close_step(step, "failed", last_error=error)
        run.end("failed", last_error=error)
    elif ending == "incomplete":
        run.close_step(step, "completed")
        run.end("incomplete", incomplete_details={"reason": "max_completion_tokens"})
    else:
        run.close_step(step, ending)
        run.end(ending)


def compose(speech: Speech) -> list[Json]:
    text = "".join(piece.text for piece in speech.pieces)
    part = text_part(text)
    part["text"]["annotations"] = [annotation for _, annotation in annotate(speech.pieces) if annotation]
    return [*(image_part(each) for each in speech.image_ids), part]


def deltas(speech: Speech) -> Iterator[Json]:
    """One content delta after the other; the first of the text opens the part."""
    for place, file_id in enumerate(speech.image_ids):
        yield {"index": place, **image_part(file_id)}
    place, count, is_first = len(speech.image_ids), 0, True
    for text, annotation in annotate(speech.pieces):
        shown: Json = {"value": text}
        if annotation or is_first:
            shown["annotations"] = [{"index": count, **annotation}] if annotation else []
        count += annotation is not None
        is_first = False
        yield {"index": place, "type": "text", "text": shown}


def annotate(pieces: list[Piece]) -> Iterator[tuple[str, Json | None]]:
    """The pieces with their annotations placed in the whole text, in characters."""
    start = 0
    for piece in pieces:
        stop = start + len(piece.text)
        place = {"text": piece.text, "start_index": start, "end_index": stop}
        yield piece.text, {**piece.annotation, **place} if piece.annotation else None
        start = stop


def image_part(file_id: str) -> Json:
    return {"type": "image_file", "image_file": {"file_id": file_id}}
