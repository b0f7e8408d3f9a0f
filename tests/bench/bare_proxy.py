"""The obvious thirty lines: an aiohttp proxy that does nothing but pass a request on. What the gateway is held against.

python bare_proxy.py PORT UPSTREAM_URL
"""

import sys

from aiohttp import ClientSession, TCPConnector, web


async def make_app(upstream: str) -> web.Application:
    session = ClientSession(connector=TCPConnector(limit=0))

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with session.request(
            request.method, upstream + request.path_qs, headers=headers, data=await request.read() or None
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def close(app: web.Application) -> None:
        await session.close()

    app = web.Application()
    app.on_cleanup.append(close)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
