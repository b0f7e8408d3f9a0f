"""Vector stores: their files, file batches and search, and the `tool_resources` that name them.

Indexing takes until somebody looks: files enter `in_progress`, and reading a file, a batch or a store
completes them.
"""

from dataclasses import dataclass

from tests.simulators.threads_server.files import Files
from tests.simulators.threads_server.ground import Ground, Plain, Query, Shelf, merge_metadata
from tests.simulators.threads_server.refusal import Json, Refused, check_fields, missing

FILE_STATES = ("in_progress", "completed", "failed", "cancelled")


class StoreFileShelf(Shelf["StoreFile"]):
    """The files of one store, whose ids are ids of files."""

    def __init__(self, ground: Ground, store_id: str) -> None:
        super().__init__(ground, "vector_store_file")
        self._store_id = store_id

    def lost(self, object_id: str) -> Refused:
        return Refused(f"No file found with id '{object_id}' in vector store '{self._store_id}'.", status=404)


@dataclass
class StoreFile:
    """A file's place in a store, and the batch that brought it."""

    json: Json
    batch_id: str | None = None


@dataclass
class Store:
    json: Json
    files: StoreFileShelf
    batches: Shelf[Plain]


class Stores:
    """The operations under /vector_stores."""

    def __init__(self, ground: Ground, files: Files) -> None:
        self._ground = ground
        self._files = files
        self._shelf: Shelf[Store] = Shelf(ground, "vector_store")

    def create(self, body: Json) -> Json:
        check_fields(body)
        record = self._ground.birth("vector_store", "vector_store") | {
            "name": body.get("name") or "",
            "description": body.get("description"),
            "usage_bytes": 0,
            "status": "completed",
            "expires_after": body.get("expires_after"),
            "expires_at": None,
            "last_active_at": self._ground.now(),
            "metadata": body.get("metadata") or {},
        }
        if record["expires_after"]:
            record["expires_at"] = self._ground.now() + 86_400 * record["expires_after"]["days"]
        shelf = StoreFileShelf(self._ground, record["id"])
        store = Store(record, shelf, Shelf(self._ground, "file_batch"))
        self._enter(store, [{"file_id": each} for each in body.get("file_ids") or []])
        return self._show(self._shelf.put(store))

    def list_all(self, query: Query) -> Json:
        for store in self._shelf:
            self._show(store)
        return self._shelf.page(query)

    def get(self, store_id: str) -> Json:
        store = self._shelf.find(store_id)
        index(store)
        return self._show(store)

    def modify(self, store_id: str, body: Json) -> Json:
        store = self._shelf.find(store_id)
        check_fields(body)
        merge_metadata(store.json, body)
        store.json.update({name: body[name] for name in ("name", "expires_after") if name in body})
        return self._show(store)

    def delete(self, store_id: str) -> Json:
        return self._shelf.drop(store_id, "vector_store.deleted")

    def add_file(self, store_id: str, body: Json) -> Json:
        store = self._shelf.find(store_id)
        check_fields(body, "file_id")
        return self._enter(store, [body])[0].json

    def list_files(self, store_id: str, query: Query) -> Json:
        wanted = query.get("filter")
        files = self._shelf.find(store_id).files
        return files.page(query, keep=lambda each: wanted in (None, each.json["status"]))

    def get_file(self, store_id: str, file_id: str) -> Json:
        store = self._shelf.find(store_id)
        found = store.files.find(file_id)
        index(store)
        return found.json

    def modify_file(self, store_id: str, file_id: str, body: Json) -> Json:
        found = self._shelf.find(store_id).files.find(file_id)
        if "attributes" not in body:
            raise missing("attributes")
        found.json["attributes"] = body["attributes"] or {}
        return found.json

    def remove_file(self, store_id: str, file_id: str) -> Json:
        return self._shelf.find(store_id).files.drop(file_id, "vector_store.file.deleted")

    def file_content(self, store_id: str, file_id: str) -> Json:
        self._shelf.find(store_id).files.find(file_id)
        part = {"type": "text", "text": self._text(file_id)}
        page = "vector_store.file_content.page"
        return {"object": page, "data": [part], "has_more": False, "next_page": None}

    def add_batch(self, store_id: str, body: Json) -> Json:
        store = self._shelf.find(store_id)
        shared = {name: body.get(name) for name in ("attributes", "chunking_strategy")}
        entries = body.get("files") or [{"file_id": each, **shared} for each in body.get("file_ids") or []]
        if not entries:
            raise missing("file_ids")
        record = self._ground.birth("file_batch", "vector_store.files_batch") | {
            "vector_store_id": store_id,
            "status": "in_progress",
        }
        self._enter(store, entries, batch_id=record["id"])
        return show_batch(store, store.batches.put(Plain(record)))

    def get_batch(self, store_id: str, batch_id: str) -> Json:
        store = self._shelf.find(store_id)
        batch = store.batches.find(batch_id)
        index(store)
        return show_batch(store, batch)

    def cancel_batch(self, store_id: str, batch_id: str) -> Json:
        store = self._shelf.find(store_id)
        batch = store.batches.find(batch_id)
        for each in batch_files(store, batch):
            if each.json["status"] == "in_progress":
                each.json["status"] = "cancelled"
        return show_batch(store, batch)

    def list_batch_files(self, store_id: str, batch_id: str, query: Query) -> Json:
        store = self._shelf.find(store_id)
        store.batches.find(batch_id)
        wanted = query.get("filter")
        return store.files.page(
            query, keep=lambda each: each.batch_id == batch_id and wanted in (None, each.json["status"])
        )

    def search(self, store_id: str, body: Json) -> Json:
        """Every file is found, the earliest best; filters are not applied."""
        self._shelf.find(store_id)
        if not body.get("query"):
            raise missing("query")
        asked = body["query"] if isinstance(body["query"], list) else [body["query"]]
        found = self.find_passages([store_id])[: body.get("max_num_results") or 10]
        rows = [
            {"file_id": each["file_id"], "filename": each["file_name"], "score": each["score"]}
            | {"attributes": self._shelf.find(store_id).files.find(each["file_id"]).json["attributes"]}
            | {"content": each["content"]}
            for each in found
        ]
        page = "vector_store.search_results.page"
        return {"object": page, "search_query": asked, "data": rows, "has_more": False, "next_page": None}

    def find_passages(self, store_ids: list[str]) -> list[Json]:
        """What a file search over these stores finds, as a run step shows it."""
        ids = [each.json["id"] for store_id in store_ids for each in self._shelf.find(store_id).files]
        return [
            {
                "file_id": file_id,
                "file_name": self._files.use(file_id).json["filename"],
                "score": round(1 / (place + 1), 2),
                "content": [{"type": "text", "text": self._text(file_id)}],
            }
            for place, file_id in enumerate(ids)
        ]

    def resolve(self, resources: Json | None) -> Json:
        """`tool_resources` as answered: what they name must exist, stores described in them are made."""
        resolved = {kind: dict(content or {}) for kind, content in (resources or {}).items()}
        for file_id in resolved.get("code_interpreter", {}).get("file_ids") or []:
            self._files.use(file_id)
        search = resolved.get("file_search", {})
        for store_id in search.get("vector_store_ids") or []:
            self._shelf.find(store_id)
        if described := search.pop("vector_stores", None):
            made = [self.create(each)["id"] for each in described]
            search["vector_store_ids"] = [*(search.get("vector_store_ids") or []), *made]
        return resolved

    def _text(self, file_id: str) -> str:
        return self._files.use(file_id).content.data.decode(errors="replace")

    def _enter(self, store: Store, entries: list[Json], batch_id: str | None = None) -> list[StoreFile]:
        """All or none: an unknown file is refused before the first one enters."""
        sizes = [self._files.use(each["file_id"]).json["bytes"] for each in entries]
        return [
            store.files.put(StoreFile(self._store_file(store, each, size), batch_id))
            for each, size in zip(entries, sizes, strict=True)
        ]

    def _store_file(self, store: Store, entry: Json, size_bytes: int) -> Json:
        auto = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
        return {
            "id": entry["file_id"],
            "object": "vector_store.file",
            "created_at": self._ground.now(),
            "vector_store_id": store.json["id"],
            "usage_bytes": size_bytes,
            "status": "in_progress",
            "last_error": None,
            "chunking_strategy": entry.get("chunking_strategy") or auto,
            "attributes": entry.get("attributes") or {},
        }

    def _show(self, store: Store) -> Json:
        counts = count_states(list(store.files))
        size = sum(each.json["usage_bytes"] for each in store.files)
        status = "in_progress" if counts["in_progress"] else "completed"
        store.json.update(file_counts=counts, usage_bytes=size, status=status)
        return store.json


def index(store: Store) -> None:
    for each in store.files:
        if each.json["status"] == "in_progress":
            each.json["status"] = "completed"


def count_states(files: list[StoreFile]) -> dict[str, int]:
    states = [each.json["status"] for each in files]
    return {state: states.count(state) for state in FILE_STATES} | {"total": len(states)}


def batch_files(store: Store, batch: Plain) -> list[StoreFile]:
    return [each for each in store.files if each.batch_id == batch.json["id"]]


def show_batch(store: Store, batch: Plain) -> Json:
    counts = count_states(batch_files(store, batch))
    status = next((state for state in ("in_progress", "cancelled") if counts[state]), "completed")
    batch.json.update(file_counts=counts, status=status)
    return batch.json
