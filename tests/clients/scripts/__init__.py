"""Ordinary programs of `client.beta.threads`, as people wrote them for OpenAI: one file each, with a `run(client)` that
prints what it saw.

    python -m tests.clients.scripts                # all of them, but for what takes ten minutes
    python -m tests.clients.scripts stream cancel

They know nothing of a gateway: address and key come from the environment (`OPENAI_BASE_URL`, `OPENAI_API_KEY`), the
model from `MODEL` (default `gpt-4o`). What they print over a model that follows their words to the letter stands in
`transcript.txt`; the echo model of `make run` is one. Every release of OpenAI's SDK since 1.20 runs them.
"""

ALL = ("poll", "stream", "tools", "parallel", "cancel", "v1", "resume")
TEN_MINUTES = ("expiry",)
"""Run only when they are named."""
