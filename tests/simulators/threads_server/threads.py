"""Assistants, threads and messages."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.simulators.threads_server.files import Files
from tests.simulators.threads_server.ground import Ground, Plain, Query, Shelf, merge_metadata
from tests.simulators.threads_server.refusal import Json, Refused, check_fields, check_item, missing, wrong_value
from tests.simulators.threads_server.run import Run
from tests.simulators.threads_server.stores import Stores

ASSISTANT_DEFAULTS: Json = {
    "name": None,
    "description": None,
    "model": None,
    "instructions": None,
    "tools": [],
    "top_p": 1.0,
    "temperature": 1.0,
    "reasoning_effort": None,
    "tool_resources": {},
    "metadata": {},
    "response_format": "auto",
}
PART_TYPES = ("text", "image_file", "image_url")
STREAM_ONLY = ("status", "completed_at", "incomplete_at", "incomplete_details")


@dataclass
class Thread:
    json: Json
    messages: Shelf[Plain]
    runs: Shelf[Run]

    @property
    def active_run(self) -> Run | None:
        return next((run for run in self.runs if run.is_active), None)

    @property
    def last_user_message(self) -> Json | None:
        said = [each.json for each in self.messages if each.json["role"] == "user"]
        return said[-1] if said else None


class Assistants:
    """The operations under /assistants."""

    def __init__(self, ground: Ground, stores: Stores) -> None:
        self._ground = ground
        self._stores = stores
        self._shelf: Shelf[Plain] = Shelf(ground, "assistant")

    def create(self, body: Json) -> Json:
        check_fields(body, "model")
        given = {name: body[name] for name in ASSISTANT_DEFAULTS if body.get(name) is not None}
        given["tool_resources"] = self._stores.resolve(body.get("tool_resources"))
        record = self._ground.birth("assistant", "assistant") | ASSISTANT_DEFAULTS | given
        return self._shelf.put(Plain(record)).json

    def list_all(self, query: Query) -> Json:
        return self._shelf.page(query)

    def get(self, assistant_id: str) -> Json:
        return self._shelf.find(assistant_id).json

    def modify(self, assistant_id: str, body: Json) -> Json:
        """Fields that may be null become null, the others keep their value."""
        record = self._shelf.find(assistant_id).json
        check_fields(body)
        merge_metadata(record, body)
        if body.get("tool_resources") is not None:
            record["tool_resources"] |= self._stores.resolve(body["tool_resources"])
        for name in ASSISTANT_DEFAULTS.keys() & body.keys() - {"metadata", "tool_resources"}:
            record[name] = ASSISTANT_DEFAULTS[name] if body[name] is None else body[name]
        return record

    def delete(self, assistant_id: str) -> Json:
        return self._shelf.drop(assistant_id, "assistant.deleted")


class Threads:
    """The operations on threads and their messages."""

    def __init__(self, ground: Ground, files: Files, stores: Stores) -> None:
        self._ground = ground
        self._files = files
        self._stores = stores
        self._shelf: Shelf[Thread] = Shelf(ground, "thread")

    def create(self, body: Json) -> Json:
        """Refused, with nothing kept, when one of its messages is."""
        check_fields(body)
        record = self._ground.birth("thread", "thread") | {
            "tool_resources": self._stores.resolve(body.get("tool_resources")),
            "metadata": body.get("metadata") or {},
        }
        thread = Thread(record, Shelf(self._ground, "message"), Shelf(self._ground, "run"))
        self.add_messages(thread, body.get("messages") or [])
        return self._shelf.put(thread).json

    def list_all(self, query: Query) -> Json:
        return self._shelf.page(query)

    def find(self, thread_id: str) -> Thread:
        return self._shelf.find(thread_id)

    def get(self, thread_id: str) -> Json:
        return self.find(thread_id).json

    def modify(self, thread_id: str, body: Json) -> Json:
        record = self.find(thread_id).json
        check_fields(body)
        merge_metadata(record, body)
        if body.get("tool_resources") is not None:
            record["tool_resources"] |= self._stores.resolve(body["tool_resources"])
        return record

    def delete(self, thread_id: str) -> Json:
        return self._shelf.drop(thread_id, "thread.deleted")

    def add_message(self, thread_id: str, body: Json) -> Json:
        thread = self.find(thread_id)
        if run := thread.active_run:
            raise Refused(f"Can't add messages to {thread_id} while a run {run.json['id']} is active.")
        return without_stream_fields(self.add_messages(thread, [body])[0])

    def add_messages(self, thread: Thread, bodies: Iterable[Json]) -> list[Json]:
        """All or none: the first message that is refused keeps the others out."""
        drafts = [self._draft_message(thread, body) for body in bodies]
        for draft in drafts:
            self._attach(thread, draft["attachments"])
            thread.messages.put(Plain(draft))
        return drafts

    def list_messages(self, thread_id: str, query: Query) -> Json:
        wanted = query.get("run_id")
        messages = self.find(thread_id).messages
        page = messages.page(query, keep=lambda message: wanted in (None, message.json["run_id"]))
        return page | {"data": [without_stream_fields(each) for each in page["data"]]}

    def get_message(self, thread_id: str, message_id: str) -> Json:
        return without_stream_fields(self.find(thread_id).messages.find(message_id).json)

    def modify_message(self, thread_id: str, message_id: str, body: Json) -> Json:
        record = self.find(thread_id).messages.find(message_id).json
        check_fields(body)
        merge_metadata(record, body)
        return without_stream_fields(record)

    def delete_message(self, thread_id: str, message_id: str) -> Json:
        return self.find(thread_id).messages.drop(message_id, "thread.message.deleted")

    def _draft_message(self, thread: Thread, body: Json) -> Json:
        check_fields(body, "role")
        if body["role"] not in ("user", "assistant"):
            raise wrong_value("role", body["role"], ("user", "assistant"))
        for attachment in body.get("attachments") or []:
            self._files.use(attachment["file_id"])
        message = new_message(self._ground, thread, body["role"], self._read_content(body.get("content")))
        message.update(attachments=body.get("attachments") or [], metadata=body.get("metadata") or {})
        return message | {"status": "completed", "completed_at": self._ground.now()}

    def _read_content(self, content: object) -> list[Json]:
        if content is None:
            raise missing("content")
        if not content or not isinstance(content, (str, list)):
            raise Refused("Message content must be non-empty.", param="content")
        if isinstance(content, str):
            return [text_part(content)]
        for place, part in enumerate(content):
            check_item(f"content[{place}]", part, ("type",))
            if part["type"] not in PART_TYPES:
                raise wrong_value(f"content[{place}].type", part["type"], PART_TYPES)
            check_item(f"content[{place}]", part, (part["type"],))
            if part["type"] == "image_file":
                self._files.use(part["image_file"]["file_id"])
        return [text_part(part["text"]) if part["type"] == "text" else part for part in content]

    def _attach(self, thread: Thread, attachments: list[Json]) -> None:
        """What a message attaches becomes a resource of the thread, tool by tool."""
        resources = thread.json["tool_resources"]
        for attachment in attachments:
            file_id = attachment["file_id"]
            tools = {tool["type"] for tool in attachment.get("tools") or []}
            if "code_interpreter" in tools:
                resources.setdefault("code_interpreter", {}).setdefault("file_ids", []).append(file_id)
            if "file_search" in tools:
                search = resources.setdefault("file_search", {})
                if not search.get("vector_store_ids"):
                    search["vector_store_ids"] = [self._stores.create({})["id"]]
                self._stores.add_file(search["vector_store_ids"][0], {"file_id": file_id})


def new_message(ground: Ground, thread: Thread, role: str, content: list[Json]) -> Json:
    return ground.birth("message", "thread.message") | {
        "thread_id": thread.json["id"],
        "status": "in_progress",
        "incomplete_details": None,
        "completed_at": None,
        "incomplete_at": None,
        "role": role,
        "content": content,
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def text_part(value: str) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def text_of(message: Json | None) -> str:
    parts = message["content"] if message else []
    return "\n".join(part["text"]["value"] for part in parts if part["type"] == "text")


def without_stream_fields(message: Json) -> Json:
    """OpenAI's stored messages lack these fields; only those inside a stream carry them."""
    return {name: value for name, value in message.items() if name not in STREAM_ONLY}
