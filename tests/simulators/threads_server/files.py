"""Files, and the form in which they are uploaded.

Every file can be read back. OpenAI refused the content of files uploaded for assistants; what the other
vendors do is not documented, and a copy that can be compared is worth more here.
"""

from dataclasses import dataclass

from tests.simulators.threads_server.ground import Ground, Query, Shelf
from tests.simulators.threads_server.refusal import Json, Refused, missing, not_found, wrong_value

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
LIST_LIMIT = 10_000


@dataclass(frozen=True)
class Content:
    """Bytes with their type: an answer that is not JSON."""

    data: bytes
    content_type: str
    filename: str


@dataclass(frozen=True)
class Form:
    """A decoded multipart upload."""

    fields: dict[str, str]
    file: Content | None


@dataclass
class StoredFile:
    """A file object and its bytes."""

    json: Json
    content: Content


class FileShelf(Shelf[StoredFile]):
    """Files have words of their own for an unknown id."""

    def find(self, object_id: str) -> StoredFile:
        if object_id not in self._items:
            raise self.lost(object_id)
        return self._items[object_id]

    def lost(self, object_id: str) -> Refused:
        return Refused(f"No such File object: {object_id}", status=404, param="id")


class Files:
    """The operations under /files."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._shelf = FileShelf(ground, "file")

    def upload(self, form: Form) -> Json:
        if form.file is None:
            raise missing("file")
        purpose = form.fields.get("purpose")
        if purpose is None:
            raise missing("purpose")
        if purpose not in PURPOSES:
            raise wrong_value("purpose", purpose, PURPOSES)
        stored = self.keep(form.file, purpose)
        if seconds := form.fields.get("expires_after[seconds]"):
            stored.json["expires_at"] = self._ground.now() + int(seconds)
        return stored.json

    def keep(self, content: Content, purpose: str, *, counted_as: str = "file") -> StoredFile:
        """Store bytes as a new file, whoever made them."""
        record = self._ground.birth("file", "file") | {
            "bytes": len(content.data),
            "filename": content.filename,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
            "expires_at": None,
        }
        return self._shelf.put(StoredFile(record, content), counted_as=counted_as)

    def list_all(self, query: Query) -> Json:
        wanted = query.get("purpose")
        return self._shelf.page(
            query,
            keep=lambda stored: wanted in (None, stored.json["purpose"]),
            default=LIST_LIMIT,
            maximum=LIST_LIMIT,
        )

    def get(self, file_id: str) -> Json:
        return self._shelf.find(file_id).json

    def content(self, file_id: str) -> Content:
        return self._shelf.find(file_id).content

    def delete(self, file_id: str) -> Json:
        return self._shelf.drop(file_id, "file")

    def use(self, file_id: str) -> StoredFile:
        """The file that another object names; the words for an unknown one differ from those of /files."""
        try:
            return self._shelf.find(file_id)
        except Refused as exc:
            raise not_found("file", file_id) from exc
