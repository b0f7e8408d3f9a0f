"""The table of operations: method, path, what answers it and what that takes."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import unquote

from tests.simulators.threads_server.files import Content
from tests.simulators.threads_server.refusal import Json, Refused
from tests.simulators.threads_server.run import Event
from tests.simulators.threads_server.world import World

Answer = Json | Content | list[Event]
Takes = Literal["body", "query", "form"]


@dataclass(frozen=True)
class Route:
    """`pick` finds the operation in a world; it is called with the path's ids and then what it `takes`."""

    method: str
    template: str
    pick: Callable[[World], Callable[..., Answer]]
    takes: tuple[Takes, ...] = ()
    is_creation: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"{\w+}", "([^/]+)", self.template))

    @property
    def is_of_threads(self) -> bool:
        return self.template.startswith(("/assistants", "/threads"))


B: tuple[Takes, ...] = ("body",)
Q: tuple[Takes, ...] = ("query",)
THREAD = "/threads/{thread_id}"
MESSAGE = THREAD + "/messages/{message_id}"
RUN = THREAD + "/runs/{run_id}"
STORE = "/vector_stores/{vector_store_id}"

# The first match wins: /threads/runs stands before /threads/{thread_id}.
ROUTES = (
    Route("GET", "/assistants", lambda w: w.assistants.list_all, Q),
    Route("POST", "/assistants", lambda w: w.assistants.create, B, is_creation=True),
    Route("GET", "/assistants/{assistant_id}", lambda w: w.assistants.get),
    Route("POST", "/assistants/{assistant_id}", lambda w: w.assistants.modify, B),
    Route("DELETE", "/assistants/{assistant_id}", lambda w: w.assistants.delete),
    Route("POST", "/threads", lambda w: w.threads.create, B, is_creation=True),
    Route("POST", "/threads/runs", lambda w: w.runs.create_with_thread, B, is_creation=True),
    Route("GET", THREAD, lambda w: w.threads.get),
    Route("POST", THREAD, lambda w: w.threads.modify, B),
    Route("DELETE", THREAD, lambda w: w.threads.delete),
    Route("GET", THREAD + "/messages", lambda w: w.threads.list_messages, Q),
    Route("POST", THREAD + "/messages", lambda w: w.threads.add_message, B, is_creation=True),
    Route("GET", MESSAGE, lambda w: w.threads.get_message),
    Route("POST", MESSAGE, lambda w: w.threads.modify_message, B),
    Route("DELETE", MESSAGE, lambda w: w.threads.delete_message),
    Route("GET", THREAD + "/runs", lambda w: w.runs.list_all, Q),
    Route("POST", THREAD + "/runs", lambda w: w.runs.create, B + Q, is_creation=True),
    Route("GET", RUN, lambda w: w.runs.get),
    Route("POST", RUN, lambda w: w.runs.modify, B),
    Route("POST", RUN + "/cancel", lambda w: w.runs.cancel),
    Route("POST", RUN + "/submit_tool_outputs", lambda w: w.runs.submit_tool_outputs, B),
    Route("GET", RUN + "/steps", lambda w: w.runs.list_steps, Q),
    Route("GET", RUN + "/steps/{step_id}", lambda w: w.runs.get_step, Q),
    Route("GET", "/files", lambda w: w.files.list_all, Q),
    Route("POST", "/files", lambda w: w.files.upload, ("form",), is_creation=True),
    Route("GET", "/files/{file_id}", lambda w: w.files.get),
    Route("DELETE", "/files/{file_id}", lambda w: w.files.delete),
    Route("GET", "/files/{file_id}/content", lambda w: w.files.content),
    Route("GET", "/vector_stores", lambda w: w.stores.list_all, Q),
    Route("POST", "/vector_stores", lambda w: w.stores.create, B, is_creation=True),
    Route("GET", STORE, lambda w: w.stores.get),
    Route("POST", STORE, lambda w: w.stores.modify, B),
    Route("DELETE", STORE, lambda w: w.stores.delete),
    Route("POST", STORE + "/search", lambda w: w.stores.search, B),
    Route("GET", STORE + "/files", lambda w: w.stores.list_files, Q),
    Route("POST", STORE + "/files", lambda w: w.stores.add_file, B, is_creation=True),
    Route("GET", STORE + "/files/{file_id}", lambda w: w.stores.get_file),
    Route("POST", STORE + "/files/{file_id}", lambda w: w.stores.modify_file, B),
    Route("DELETE", STORE + "/files/{file_id}", lambda w: w.stores.remove_file),
    Route("GET", STORE + "/files/{file_id}/content", lambda w: w.stores.file_content),
    Route("POST", STORE + "/file_batches", lambda w: w.stores.add_batch, B, is_creation=True),
    Route("GET", STORE + "/file_batches/{batch_id}", lambda w: w.stores.get_batch),
    Route("POST", STORE + "/file_batches/{batch_id}/cancel", lambda w: w.stores.cancel_batch),
    Route("GET", STORE + "/file_batches/{batch_id}/files", lambda w: w.stores.list_batch_files, Q),
)


def find_route(routes: Iterable[Route], method: str, path: str) -> tuple[Route, list[str]]:
    """The first route that matches and the ids in the path, which is as on the wire without the dialect's prefix.

    Raises `Refused`: 404 where nothing answers, 405 where another method would.
    """
    others = False
    for route in routes:
        if match := route.pattern.fullmatch(path):
            if route.method == method:
                return route, [unquote(each) for each in match.groups()]
            others = True
    if not others:
        raise Refused(f"Invalid URL ({method} {path})", status=404)
    hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
    raise Refused(f"Not allowed to {method} on {path}. {hint}", status=405, code="method_not_supported")
