"""A provider that costs next to nothing: every request gets the same thread. Prints the port it took."""

import asyncio

import orjson

THREAD_ID = "thread_" + "b" * 24
BODY = orjson.dumps(
    {
        "id": THREAD_ID,
        "object": "thread",
        "created_at": 1795000000,
        "metadata": {"customer": "4711"},
        "tool_resources": {},
    }
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Provider(asyncio.Protocol):
    """Answers each request head; requests here have no body that comes in a second packet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
