"""`mesh trace`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mesh_cli.commands.output import AsJson
from mesh_cli.commands.target import EXIT_FAILED, EXIT_NO_MESH, fail, local_mesh
from mesh_cli.commands.terminal import say, wide_console
from mesh_cli.traces import listing, waterfall

TIMEOUT_SECONDS = 10.0
TRACEPARENT_DASHES = 3
NOT_FOUND = 404


def trace(
    context: typer.Context,
    trace_id: Annotated[str, typer.Argument(help="A trace id (32 hex digits) or a traceparent.")] = "",
    last: Annotated[bool, typer.Option("--last", help="List the latest traces instead.")] = False,
    slow: Annotated[bool, typer.Option("--slow", help="List those with a step of two seconds.")] = False,
    failed: Annotated[bool, typer.Option("--error", help="List those in which something failed.")] = False,
    jaeger: Annotated[
        str,
        typer.Option(
            envvar="MESH_JAEGER_URL",
            help="Jaeger's query address, such as http://127.0.0.1:16686. Default: the mesh on this machine.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show one trace through all processes as a waterfall, or list the latest ones."""
    if bool(trace_id) == (last or slow or failed):
        raise typer.BadParameter("give the id of a trace, or --last, --slow or --error")
    import aiohttp  # here: other commands need not wait for it

    url = jaeger
    if not url:
        mesh = local_mesh(context.obj)
        if mesh is None:
            fail("no mesh runs on this machine; give the address of a Jaeger with --jaeger", EXIT_NO_MESH)
        url = mesh.traces_url
    try:
        if not trace_id:
            _show_list(asyncio.run(search(url, slow=slow, failed=failed)), as_json=as_json)
            return
        found = asyncio.run(fetch(url, trace_id))
    except aiohttp.ClientError as error:
        fail(f"{url} does not answer: {error}", EXIT_FAILED)
    if found is None:
        fail(f"{url} has no trace {trace_id}; was it sampled?", EXIT_FAILED)
    if as_json:
        print(json.dumps(found))
        return
    wide_console().print(waterfall.table(found))


def _show_list(found: list[listing.Summary], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(summary) for summary in found]))
        return
    for line in listing.lines(found):
        say(line)


async def search(url: str, *, slow: bool, failed: bool) -> list[listing.Summary]:
    """The latest traces, of all services."""
    import aiohttp

    timeout, found = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), []
    async with aiohttp.ClientSession(timeout=timeout) as http:
        for query in listing.queries(slow=slow, failed=failed):
            async with http.get(f"{url.rstrip('/')}/api/traces", params=query) as answer:
                answer.raise_for_status()
                found += (await answer.json())["data"]
    return listing.summaries(found)


async def fetch(url: str, trace_id: str) -> dict[str, Any] | None:
    """The trace in Jaeger's form, or None when there is none."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    wanted = trace_id.split("-")[1] if trace_id.count("-") == TRACEPARENT_DASHES else trace_id
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(f"{url.rstrip('/')}/api/traces/{wanted}") as answer,
    ):
        if answer.status == NOT_FOUND:
            return None
        answer.raise_for_status()
        body = await answer.json()
        found: dict[str, Any] | None = body["data"][0] if body["data"] else None
        return found
