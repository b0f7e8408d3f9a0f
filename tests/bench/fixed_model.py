"""A model that costs next to nothing: every request gets the same 50 deltas, 5 ms apart. Prints the port it took."""

from __future__ import annotations

import asyncio

import orjson

DELTAS = 50
PAUSE_S = 0.005
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(**fields: object) -> bytes:
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1795000000, "model": "m", **fields}
    data = b"data: " + orjson.dumps(event) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


_DELTA = _chunk(choices=[{"index": 0, "delta": {"content": "a few words "}, "finish_reason": None}])
_END = _chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]) + _chunk(
    choices=[], usage={"prompt_tokens": 100, "completion_tokens": 150, "total_tokens": 250}
)
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.write(_HEAD)
        for _ in range(DELTAS):
            writer.write(_DELTA)
            await asyncio.sleep(PAUSE_S)
        writer.write(_END + _DONE)


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
