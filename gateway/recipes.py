"""What a v1 caller asks in one call and a v2 provider does in several: the files of assistants and of messages.

A *recipe* is the ordered list of calls for one operation. Each call goes through the same attempts as any request and
stands in its log line. A recipe that fails half-way takes back what it can and says what it could not.

v2 cannot change an assistant only if nobody else did meanwhile, so recipes that change one wait for each other; those
of another replica, and what else changes the assistant at the provider, can still come between a read and its write.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from gateway import codec
from gateway.attempts import Send, Sending
from gateway.errors import GatewayError, bad_request, error_fields, unknown_id
from gateway.lists import Page
from gateway.operations import BY_NAME
from gateway.phases.locate import Located
from gateway.phases.receive import Body
from gateway.phases.rewrite_out import path_of, rewrite_body, url_of
from gateway.phases.send import Response
from gateway.protocols import V1_TO_V2, v1
from gateway.telemetry import Record, log

Json = dict[str, Any]


class StepRefused(Exception):
    """The provider refused one of a recipe's calls."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


@dataclass(frozen=True)
class Asked:
    """What the caller asked, with upstream ids."""

    sending: Sending
    located: Located
    page: Page | None

    @property
    def ids(self) -> Mapping[str, str]:
        return self.located.path_ids

    @property
    def assistant(self) -> Mapping[str, str]:
        return {"assistant": self.ids["assistant"]}

    def unknown_file(self) -> GatewayError:
        return unknown_id("file", self.located.known[self.ids["file"]])


class Steps:
    """The calls of one recipe. `done` says, in words for the caller, what stands at the provider although the recipe
    has not come to its end."""

    def __init__(self, send: Send, sending: Sending, record: Record, *, trusts_marks: bool) -> None:
        self.trusts_marks = trusts_marks
        self._send = send
        self._sending = sending
        self._record = record
        self._undo: list[tuple[str, Callable[[], Awaitable[bool]]]] = []
        self.done: list[str] = []

    async def as_asked(self, payload: bytes | None = None) -> Response:
        """The caller's own request, with another body if one is given."""
        sending = self._sending if payload is None else replace(self._sending, payload=payload)
        return await self._send(sending, self._record)

    async def __call__(self, name: str, ids: Mapping[str, str], body: Json | None = None) -> Json:
        """Carry out one operation of v2. Raises StepRefused, and GatewayError as attempts do."""
        operation = BY_NAME[name]
        provider = self._sending.target.provider
        headers = {key: value for key, value in self._sending.outbound.headers.items() if key != "Content-Type"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        outbound = replace(
            self._sending.outbound,
            method=operation.method,
            url=url_of(provider, path_of(operation, ids)),
            headers=headers | {"Accept-Encoding": "gzip, deflate"},
        )
        payload = b"" if body is None else codec.dumps(body)
        sending = replace(self._sending, operation=operation, ids=ids, outbound=outbound, body=Body(), payload=payload)
        response = await self._send(sending, self._record)
        if not response.is_success:
            raise StepRefused(response)
        document: Json = response.document
        return document

    async def tried(self, name: str, ids: Mapping[str, str], body: Json | None = None) -> bool:
        """Carry out what may fail without consequence for the caller. Whether it is done."""
        try:
            await self(name, ids, body)
        except StepRefused as refused:
            return refused.response.status == 404 and BY_NAME[name].answers == "deleted"
        except GatewayError:
            return False
        return True

    def can_undo(self, done: str, name: str, ids: Mapping[str, str], body: Json | None = None) -> None:
        """Remember what was done, and the call that takes it back."""
        self._undo.append((done, partial(self.tried, name, ids, body)))

    async def undo(self) -> None:
        """Take back what was done, the last first. What stays is told to the caller."""
        while self._undo:
            done, take_back = self._undo.pop()
            if not await take_back():
                self.done.append(done)

    def keep(self) -> None:
        """What was done is not to be taken back; should a later call fail, the caller is told."""
        self.done += [done for done, _ in self._undo]
        self._undo.clear()

    async def drop_store(self, store: str) -> None:
        """Delete a vector store that serves nobody any more."""
        if not await self.tried("delete_vector_store", {"vector_store": store}):
            provider, account = self._sending.target.provider.name, self._sending.target.account.name
            log.warning("recipe.left_behind", provider=provider, account=account, vector_store=store)


class Recipes:
    """In front of the attempts: carries out by several calls what one call cannot do, and passes on the rest."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._changing: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def __call__(
        self, sending: Sending, located: Located, page: Page | None, record: Record, *, trusts_marks: bool = True
    ) -> Response:
        """The provider's answer, or what a recipe makes of several: then in the caller's version already, or in v2
        where the operation is one of both. `trusts_marks`: a vector store that is marked as made for a v1 assistant is
        the caller's own, and may change with it. Raises GatewayError as attempts do, and for what a recipe cannot do.
        """
        recipe = _RECIPES.get(sending.operation.name) if sending.translation is V1_TO_V2 else None
        if recipe is None:
            return await self._send(sending, record)
        asked, steps = Asked(sending, located, page), Steps(self._send, sending, record, trusts_marks=trusts_marks)
        try:
            if sending.operation.method == "GET" or "assistant" not in located.path_ids:
                return await recipe(steps, asked)
            async with self._lock(sending, located):
                return await recipe(steps, asked)
        except StepRefused as refused:
            return _told(refused.response, steps.done)
        except GatewayError as error:
            steps.keep()
            raise replace(error, message=_with_what_was_done(error.message, steps.done)) from error

    def _lock(self, sending: Sending, located: Located) -> asyncio.Lock:
        place = (sending.target.account.route, located.path_ids["assistant"])
        lock = self._changing.get(place)
        if lock is None:
            lock = self._changing[place] = asyncio.Lock()
        return lock


def _with_what_was_done(message: str, done: list[str]) -> str:
    return f"{message} (done before that, and not taken back: {'; '.join(done)})" if done else message


def _told(response: Response, done: list[str]) -> Response:
    """The provider's refusal, and what stands in spite of it."""
    if not done:
        return response
    fields = error_fields(response.raw)
    fields["message"] = _with_what_was_done(fields.get("message") or "the provider gave no reason", done)
    return replace(response, raw=codec.dumps({"error": fields}))


def _answer(document: Json) -> Response:
    return Response(200, {}, document=document)


# --- reading -------------------------------------------------------------------------------------------------------
async def _list_assistant_files(steps: Steps, asked: Asked) -> Response:
    return _list(v1.assistant_files(await steps("get_assistant", asked.ids)), asked)


async def _list_message_files(steps: Steps, asked: Asked) -> Response:
    return _list(v1.message_files(await steps("get_message", asked.ids)), asked)


async def _get_assistant_file(steps: Steps, asked: Asked) -> Response:
    return _find(v1.assistant_files(await steps("get_assistant", asked.ids)), asked)


async def _get_message_file(steps: Steps, asked: Asked) -> Response:
    return _find(v1.message_files(await steps("get_message", asked.ids)), asked)


def _list(files: list[Json], asked: Asked) -> Response:
    assert asked.page is not None
    asked.page.check(asked.sending.operation.max_limit)
    return _answer(v1.list_files(files, asked.page))


def _find(files: list[Json], asked: Asked) -> Response:
    for file in files:
        if file["id"] == asked.ids["file"]:
            return _answer(file)
    raise asked.unknown_file()


# --- the files of an assistant -------------------------------------------------------------------------------------
async def _create_assistant_file(steps: Steps, asked: Asked) -> Response:
    """An assistant that has the file already is left as it is."""
    file = (asked.sending.body.document or {}).get("file_id")
    if file is None:
        raise bad_request("Missing required parameter: 'file_id'.", param="file_id", code="missing_required_parameter")
    assistant = await steps("get_assistant", asked.assistant)
    files = v1.assistant_file_ids(assistant)
    if file not in files:
        assistant = await _change_files(steps, assistant, [*files, file], {})
    return _answer(next(each for each in v1.assistant_files(assistant) if each["id"] == file))


async def _delete_assistant_file(steps: Steps, asked: Asked) -> Response:
    """The file itself stays."""
    assistant = await steps("get_assistant", asked.assistant)
    files = v1.assistant_file_ids(assistant)
    if asked.ids["file"] not in files:
        raise asked.unknown_file()
    files.remove(asked.ids["file"])
    await _change_files(steps, assistant, files, {})
    return _answer({"id": asked.ids["file"], "object": "assistant.file.deleted", "deleted": True})


async def _modify_assistant(steps: Steps, asked: Asked) -> Response:
    """Where the change says nothing of files or of searching them, one call does."""
    document = asked.sending.body.document
    if document is None or not v1.needs_several_calls(asked.sending.operation, document):
        return await steps.as_asked()
    assistant = await steps("get_assistant", asked.assistant)
    change: Json = codec.loads(asked.sending.payload)
    resources = change.pop("tool_resources", None)
    if resources is None and v1.assistant_store_ids(assistant):
        return await steps.as_asked()
    files = v1.assistant_file_ids(assistant if resources is None else {"tool_resources": resources})
    return _answer(await _change_files(steps, assistant, files, change))


async def _delete_assistant(steps: Steps, asked: Asked) -> Response:
    """With it goes the vector store that was made for its files."""
    try:
        attached = await _attached(steps, await steps("get_assistant", asked.assistant))
    except (StepRefused, GatewayError):
        attached = Attached()
    response = await steps.as_asked()
    if response.is_success and attached.own is not None:
        await steps.drop_store(attached.own)
    return response


async def _change_files(steps: Steps, assistant: Json, files: list[str], change: Json) -> Json:
    """Give an assistant these files, and whatever else `change` says; the changed assistant.

    What is searched must lie in a vector store: one of ours is kept in step with the files, made when the first file
    is to be searched and deleted after the last. Files change place there first, because an assistant that lists a
    file it cannot search would tell nobody. Raises GatewayError 400 `unsupported_in_v2` for a new file of an assistant
    that searches a store which is not ours: others may need it as it is.
    """
    searches = v1.has_tool(change.get("tools", assistant.get("tools")), v1.FILE_SEARCH)
    attached = await _attached(steps, assistant)
    before = v1.assistant_file_ids(assistant)
    if attached.is_foreign and searches and not set(files) <= set(before):
        raise _foreign_store()
    stores = attached.ids if attached.is_foreign else []
    try:
        if searches and files and not attached.is_foreign:
            stores = [await _stock(steps, attached.own, before, files)]
        changed = await _modify(
            steps, assistant["id"], change | {"tool_resources": v1.assistant_resources(files, vector_store_ids=stores)}
        )
    except (StepRefused, GatewayError) as failed:
        if not isinstance(failed, GatewayError) or failed.code != "outcome_unknown":
            await steps.undo()
        raise
    if attached.own is not None and attached.own not in stores:
        await steps.drop_store(attached.own)
    return changed


@dataclass(frozen=True)
class Attached:
    """The vector stores that an assistant searches; `own` is the one that exists only for its v1 files."""

    ids: Sequence[str] = ()
    own: str | None = None

    @property
    def is_foreign(self) -> bool:
        return bool(self.ids) and self.own is None


async def _attached(steps: Steps, assistant: Json) -> Attached:
    ids = v1.assistant_store_ids(assistant)
    if len(ids) != 1 or not steps.trusts_marks:
        return Attached(ids)
    try:
        found = await steps("get_vector_store", {"vector_store": ids[0]})
    except StepRefused as refused:
        if refused.response.status == 404:  # it expired, or somebody deleted it
            return Attached()
        raise
    return Attached(ids, ids[0] if v1.is_own_store(found) else None)


async def _stock(steps: Steps, store: str | None, before: list[str], wanted: list[str]) -> str:
    """The store with exactly the wanted files, those aside that cannot be searched."""
    if store is None:
        return await _new_store(steps, wanted)
    for file in (file for file in wanted if file not in before):
        try:
            await steps("create_store_file", {"vector_store": store}, {"file_id": file})
        except StepRefused as refused:
            if not _unsearchable_extensions(refused.response):
                raise
        else:
            steps.can_undo(
                "a file was added to the assistant's vector store",
                "delete_store_file",
                {"vector_store": store, "file": file},
            )
    for file in (file for file in before if file not in wanted):
        try:
            await steps("delete_store_file", {"vector_store": store, "file": file})
        except StepRefused as refused:
            if refused.response.status != 404:
                raise
        else:
            steps.can_undo(
                "a file was taken out of the assistant's vector store",
                "create_store_file",
                {"vector_store": store},
                {"file_id": file},
            )
    return store


async def _new_store(steps: Steps, files: list[str]) -> str:
    body: Json = {"file_ids": files, "metadata": dict(v1.STORE_METADATA)}
    try:
        made = await steps("create_vector_store", {}, body)
    except StepRefused as refused:
        unsearchable = await _unsearchable(steps, files, refused.response)
        if not unsearchable:
            raise
        searchable = [file for file in files if file not in unsearchable]
        made = await steps("create_vector_store", {}, body | {"file_ids": searchable})
    store: str = made["id"]
    steps.can_undo("a vector store was made for the assistant's files", "delete_vector_store", {"vector_store": store})
    return store


async def _modify(steps: Steps, assistant: str, change: Json) -> Json:
    """Change the assistant. Where nobody knows whether that was done, the assistant tells."""
    try:
        return await steps("modify_assistant", {"assistant": assistant}, change)
    except GatewayError as unknown:
        if unknown.code != "outcome_unknown":
            raise
        try:
            seen = await steps("get_assistant", {"assistant": assistant})
        except (StepRefused, GatewayError):
            raise unknown from None
        if not _is_as_asked(seen, change):
            raise
        return seen


def _is_as_asked(seen: Json, change: Json) -> bool:
    asked = {"tool_resources": change["tool_resources"]}
    return (
        v1.assistant_file_ids(seen) == v1.assistant_file_ids(asked)
        and v1.assistant_store_ids(seen) == v1.assistant_store_ids(asked)
        and all(seen.get(name) == value for name, value in change.items() if name != "tool_resources")
    )


def _foreign_store() -> GatewayError:
    return bad_request(
        "this assistant searches a vector store that was not made for its file_ids, and that others may need; change"
        " its files with protocol v2",
        param="file_ids",
        code="unsupported_in_v2",
    )


# --- files that cannot be searched ---------------------------------------------------------------------------------
async def _create_with_files(steps: Steps, asked: Asked) -> Response:
    """v1 took any file and let the code interpreter read what retrieval could not. v2 refuses the whole request for a
    file that cannot be searched (400 `unsupported_file`), so it is sent again with these for the code interpreter
    alone. Nothing was done then: a 400 says so."""
    response = await steps.as_asked()
    files = [upstream for slot, upstream in asked.located.slots if slot.kind == "file"]
    unsearchable = await _unsearchable(steps, files, response)
    if not unsearchable:
        return response
    sending = asked.sending
    request = partial(v1.request_up, unsearchable=unsearchable)
    translation = replace(sending.translation, request=request)
    return await steps.as_asked(rewrite_body(sending.operation, sending.body, asked.located, translation))


async def _unsearchable(steps: Steps, files: list[str], response: Response) -> list[str]:
    """Those of the files that the provider's refusal is about; none where it is about something else."""
    extensions = _unsearchable_extensions(response)
    if not extensions:
        return []
    names = {file: (await steps("get_file", {"file": file})).get("filename") for file in dict.fromkeys(files)}
    return [file for file, name in names.items() if str(name).lower().endswith(extensions)]


_EXTENSIONS = re.compile(r"\[(\.[^\]]{1,200})\]")


def _unsearchable_extensions(response: Response) -> tuple[str, ...]:
    """The file name extensions that a refusal names: `Files with extensions [.csv] are not supported for retrieval`
    (public reports of 2024 to 2026)."""
    if response.status != 400:
        return ()
    fields = error_fields(response.raw)
    named = _EXTENSIONS.search(str(fields.get("message"))) if fields.get("code") == "unsupported_file" else None
    return tuple(each.strip(" '\"").lower() for each in named[1].split(",")) if named else ()


_RECIPES: Mapping[str, Callable[[Steps, Asked], Awaitable[Response]]] = {
    "list_assistant_files": _list_assistant_files,
    "get_assistant_file": _get_assistant_file,
    "create_assistant_file": _create_assistant_file,
    "delete_assistant_file": _delete_assistant_file,
    "list_message_files": _list_message_files,
    "get_message_file": _get_message_file,
    "modify_assistant": _modify_assistant,
    "delete_assistant": _delete_assistant,
    "create_assistant": _create_with_files,
    "create_thread": _create_with_files,
    "create_message": _create_with_files,
    "create_run": _create_with_files,
    "create_thread_and_run": _create_with_files,
}
"""By operation, for callers of v1 in front of providers of v2."""
