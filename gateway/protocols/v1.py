"""Protocol v1 (`OpenAI-Beta: assistants=v1`, 2023–2024) in terms of v2, the reference.

*Up* is v1 → v2, *down* is v2 → v1. A v1 caller in front of a v2 provider: its request goes up, the answer comes down.
A v2 caller in front of a v1 provider: its request goes down, the answer comes up.

    v1                                            v2
    tool `retrieval`                              tool `file_search`
    `file_ids` of a message                       `attachments`, each file for both tools
    `file_ids` of an assistant, of a run          `tool_resources.code_interpreter.file_ids`, and while the assistant
                                                  has the tool `file_search` a vector store of the same files
    run `completed` with `incomplete_details`     run `incomplete`
    step's tool call `retrieval`                  step's tool call `file_search`
    –                                             refusals and image URLs in messages, structured outputs, …

Rules:

1. A translation is a pure function. It never changes what it is given; what it does not translate is shared with the
   result, never copied. Each list of ids in a result is a list of its own, because ids are replaced in place later.
2. Fields that neither description knows pass, for the provider or the caller to judge. User data is never looked at.
3. Down with a request: what v1 cannot say is refused, naming the parameter (`unsupported_in_v1`), unless it only
   spells out the default. Nothing is left out silently.
4. Down with an answer: nothing is refused. What v1 had no word for becomes its nearest v1 shape.
5. `down(up(x)) == x` for every request and answer that v1 describes.

Files belong to tools in v2 and to the message or assistant in v1, where whichever tool the assistant has may use them.
So going up a file is given to both tools, and going down a file for one tool becomes a file for all: wider than asked,
but the closest v1 has, and the answer shows it.

Sources: the published OpenAPI descriptions of 2024-04-16 (v1) and 2026-08-21 (v2), OpenAI's migration guide of April
2024, recorded answers of 2023–2026.
"""

from gateway.protocols.v1_answers import answer_down, answer_up, event_down, event_up
from gateway.protocols.v1_fields import (
    FILE_SEARCH,
    STORE_METADATA,
    assistant_file_ids,
    assistant_resources,
    assistant_store_ids,
    has_tool,
    is_own_store,
)
from gateway.protocols.v1_files import assistant_files, list_files, message_files
from gateway.protocols.v1_requests_down import check_down, request_down
from gateway.protocols.v1_requests_up import needs_several_calls, request_up

__all__ = [
    "FILE_SEARCH",
    "STORE_METADATA",
    "answer_down",
    "answer_up",
    "assistant_file_ids",
    "assistant_files",
    "assistant_resources",
    "assistant_store_ids",
    "check_down",
    "event_down",
    "event_up",
    "has_tool",
    "is_own_store",
    "list_files",
    "message_files",
    "needs_several_calls",
    "request_down",
    "request_up",
]
