"""Operations on served assistants, threads and messages.

Assistants are their account's, and who made them is known further out, as it is of vendors' assistants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.engine import objects, refusals
from gateway.engine.asked import Answer, Asked, as_list, as_object, found, new_messages, refuse_erased
from gateway.engine.attaching import Attaching
from gateway.engine.models.generation import Json
from gateway.engine.running import Running
from gateway.engine.store.ids import mint
from gateway.engine.store.results import Absent, RunActive
from gateway.engine.store.stored import Stored
from gateway.errors import unknown_id
from gateway.phases.send import Response
from gateway.store.switches import IsErased


class ServingObjects:
    """Lives as long as the process. For a tenant that `is_erased` nothing is made."""

    def __init__(self, stored: Stored, running: Running, attaching: Attaching, is_erased: IsErased) -> None:
        self._stored = stored
        self._running = running
        self._attaching = attaching
        self._is_erased = is_erased
        self.operations: Mapping[str, Answer] = {
            "create_assistant": self._create_assistant,
            "get_assistant": self._get_assistant,
            "modify_assistant": self._modify_assistant,
            "delete_assistant": self._delete_assistant,
            "list_assistants": self._list_assistants,
            "create_thread": self._create_thread,
            "get_thread": self._get_thread,
            "modify_thread": self._modify_thread,
            "delete_thread": self._delete_thread,
            "create_message": self._create_message,
            "get_message": self._get_message,
            "modify_message": self._modify_message,
            "delete_message": self._delete_message,
            "list_messages": self._list_messages,
        }

    # --- assistants --------------------------------------------------------------------------------------------------
    async def _create_assistant(self, asked: Asked) -> Response:
        given = await self._attaching.of_assistant(asked.cause, asked.body)
        refuse_erased(self._is_erased, asked.sending.tenant)
        kept = objects.new_assistant(given, id=mint("assistant"), now=int(asked.now))
        await self._stored.assistants.create(asked.account, kept, tenant=asked.sending.tenant, now=asked.now)
        return as_object(objects.assistant(kept))

    async def _get_assistant(self, asked: Asked) -> Response:
        return as_object(objects.assistant(await self.assistant(asked.account, asked.ids["assistant"])))

    async def assistant(self, account: str, assistant: str) -> Json:
        """As it is kept. Raises GatewayError 404."""
        kept = await self._stored.assistants.get(account, assistant)
        if isinstance(kept, Absent):
            raise unknown_id("assistant", assistant)
        return kept

    async def _modify_assistant(self, asked: Asked) -> Response:
        changes = objects.assistant_changes(asked.body)
        kept = found(await self._stored.assistants.modify(asked.account, asked.ids["assistant"], changes), asked)
        return as_object(objects.assistant(kept))

    async def _delete_assistant(self, asked: Asked) -> Response:
        assistant, tenant = asked.ids["assistant"], asked.sending.tenant
        found(await self._stored.assistants.delete(asked.account, assistant, tenant=tenant), asked)
        return as_object(objects.deleted("assistant", assistant))

    async def _list_assistants(self, asked: Asked) -> Response:
        """Of an account with one tenant; others' lists come from the owner index."""
        return as_list(await self._stored.assistants.list(asked.account, asked.window), asked, objects.assistant)

    # --- threads -----------------------------------------------------------------------------------------------------
    async def _create_thread(self, asked: Asked) -> Response:
        return as_object(await self.new_thread(asked, asked.body))

    async def new_thread(self, asked: Asked, body: Json) -> Json:
        """Made and stored, with its messages and what they attach."""
        given = await self._attaching.of_thread(asked.cause, body)
        refuse_erased(self._is_erased, asked.sending.tenant)
        thread = objects.thread(given, id=mint("thread"), now=int(asked.now))
        messages = new_messages(body.get("messages"), thread["id"], asked.now)
        await self._stored.threads.create(thread, messages, tenant=asked.sending.tenant, now=asked.now)
        return thread

    async def _get_thread(self, asked: Asked) -> Response:
        return as_object(found(await self._stored.threads.get(asked.ids["thread"]), asked))

    async def _modify_thread(self, asked: Asked) -> Response:
        changes = objects.changes(asked.body)
        return as_object(found(await self._stored.threads.modify(asked.ids["thread"], changes), asked))

    async def _delete_thread(self, asked: Asked) -> Response:
        thread = asked.ids["thread"]
        waiting = await self._stored.runs.waiting(thread)
        found(await self._stored.threads.delete(thread, now=asked.now), asked)
        if waiting is not None:  # others are noticed by whoever works on them
            await self._running.tell_gone(waiting.context, thread, waiting.run, waiting.usage)
        return as_object(objects.deleted("thread", thread))

    # --- messages ----------------------------------------------------------------------------------------------------
    async def _create_message(self, asked: Asked) -> Response:
        thread = asked.ids["thread"]
        message = objects.message(asked.body, id=mint("message"), thread=thread, now=int(asked.now))
        await self.attach(asked, thread, [message])
        result = await self._stored.messages.append(thread, message, now=asked.now)
        if isinstance(result, RunActive):
            raise refusals.cannot_add(thread, result)
        found(result, asked)
        return as_object(message)

    async def attach(self, asked: Asked, thread: str, messages: Sequence[Json]) -> None:
        """What new messages attach, to a thread that is there. Raises GatewayError 404."""
        found(await self._attaching.to_thread(asked.cause, thread, messages), asked)

    async def _get_message(self, asked: Asked) -> Response:
        return as_object(found(await self._stored.messages.get(asked.ids["thread"], asked.ids["message"]), asked))

    async def _modify_message(self, asked: Asked) -> Response:
        thread, message, metadata = asked.ids["thread"], asked.ids["message"], asked.body.get("metadata")
        if metadata is None:
            return await self._get_message(asked)
        return as_object(found(await self._stored.messages.modify(thread, message, metadata), asked))

    async def _delete_message(self, asked: Asked) -> Response:
        thread, message = asked.ids["thread"], asked.ids["message"]
        result = await self._stored.messages.delete(thread, message)
        if isinstance(result, RunActive):
            raise refusals.cannot_delete(thread, result)
        found(result, asked)
        return as_object(objects.deleted("thread.message", message))

    async def _list_messages(self, asked: Asked) -> Response:
        run = asked.query.get("run_id") or None
        return as_list(await self._stored.messages.list(asked.ids["thread"], asked.window, run=run), asked)
