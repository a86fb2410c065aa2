"""An HTTP server on loopback that webhooks are sent to, for as long as its process lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web


async def listen(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
    """Serve every path with `handle`; the URL."""
    app = web.Application()
    app.router.add_route("POST", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"
