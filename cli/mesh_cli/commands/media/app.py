"""`mesh media`: the part of the mesh, and commands about what it stores."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.commands.amounts import bytes_text, files_text, read_bytes, read_time
from mesh_cli.commands.media.policy import category_of, change, change_rules, print_policy, read_policy
from mesh_cli.commands.media.storage import migrate, scan
from mesh_cli.commands.media.usage import print_accounts, print_usage, read_accounts, read_usage
from mesh_cli.commands.output import MAX_PAGE, AsJson, show
from mesh_cli.commands.parts import become
from mesh_cli.commands.progress import transfer_bar
from mesh_cli.commands.target import EXIT_FAILED, call, fail
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import job_pb2, media_pb2

app = typer.Typer(invoke_without_command=True)


@app.callback()
def media(context: typer.Context) -> None:
    """Media: the files that are stored, and how long they are kept. Without a command: run the media service.

    Settings of the service: environment variables MESH_..., and the file that MESH_CONFIG names.
    """
    if context.invoked_subcommand is None:
        become("mesh_media")


COLUMNS = ("id", "mime_type", "size_bytes", "state", "file_name", "categories", "create_time", "expire_time")
JOB_COLUMNS = ("id", "state", "dry_run", "done", "total", "done_bytes")
MediaArgument = Annotated[str, typer.Argument(metavar="MEDIA_ID", help="The file's id, med_...")]

AccountFilter = Annotated[
    str,
    typer.Option("--account", metavar="ACCOUNT_ID", help="Uploaded for it, or referred to by its messages."),
]
CategoryFilter = Annotated[
    str, typer.Option("--category", help="Referred to so: received, sent, status, view-once, revoked, ...")
]
TypeFilter = Annotated[str, typer.Option("--type", help="Types that begin so, such as video/.")]
OlderFilter = Annotated[str, typer.Option("--older-than", metavar="TIME", help="Such as 30d or 12h.")]
LargerFilter = Annotated[str, typer.Option("--larger-than", metavar="BYTES", help="Such as 20M.")]


class Level(StrEnum):
    """How hard files are compressed."""

    OFF = "off"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


@app.command()
def put(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What to store.")],
    account: Annotated[str, typer.Option(metavar="ACCOUNT_ID", help="Whom it is for.")] = "",
    keep_for: Annotated[
        str,
        typer.Option(metavar="TIME", help="Keep it at least so long, such as 30d. Default: by the rules."),
    ] = "",
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Store a file."""
    options = media_pb2.StorageOptions()
    if keep_for:
        options.keep_for.FromTimedelta(read_time(keep_for))

    async def work(client: Client) -> media_pb2.Media:
        owner = await tenant_id(client, tenant)
        with transfer_bar("storing") as told:
            return await client.upload(
                file, tenant_id=owner, account_id=account, options=options, progress=told
            )

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command()
def get(
    context: typer.Context,
    media_id: MediaArgument,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", dir_okay=False, help="Where to write it.")],
    as_json: AsJson = False,
) -> None:
    """Write a file's bytes to OUTPUT, once all of them have arrived and are right."""

    async def work(client: Client) -> media_pb2.Media:
        try:
            with transfer_bar("fetching") as told:
                return await client.download_to(media_id, output, progress=told)
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror}", EXIT_FAILED)

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command()
def ls(
    context: typer.Context,
    account: AccountFilter = "",
    category: CategoryFilter = "",
    type_: TypeFilter = "",
    older_than: OlderFilter = "",
    larger_than: LargerFilter = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="At most so many.")] = 50,
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """List a tenant's files, newest first."""
    wanted = _filter(account, category, type_, older_than, larger_than)

    async def work(client: Client) -> list[media_pb2.Media]:
        owner = await tenant_id(client, tenant)
        request = media_pb2.ListMediaRequest(tenant_id=owner, page_size=limit, filter=wanted)
        return list((await client.media.ListMedia(request)).media)

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command()
def usage(
    context: typer.Context,
    accounts: Annotated[bool, typer.Option("--accounts", help="By account, most bytes first.")] = False,
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Show how much is stored, of what and how old it is."""
    if accounts:

        async def by_account(client: Client) -> list[media_pb2.AccountMediaUsage]:
            return await read_accounts(client, await tenant_id(client, tenant))

        print_accounts(call(context, by_account), as_json=as_json)
        return

    async def whole(client: Client) -> media_pb2.GetMediaUsageResponse:
        return await read_usage(client, await tenant_id(client, tenant))

    print_usage(call(context, whole), as_json=as_json)


@app.command()
def policy(
    context: typer.Context,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY=TIME", help="Such as received=7d, sent=forever or status=0; may be repeated."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="CATEGORY=BYTES", help="Such as received=10G; may be repeated."),
    ] = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="CATEGORY", help="Use the mesh's rule again; may be repeated.")
    ] = None,
    compression: Annotated[Level | None, typer.Option(help="For files to come.")] = None,
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Show how long files are kept, after changing it where options say so."""

    async def work(client: Client) -> media_pb2.GetMediaPolicyResponse:
        owner = await tenant_id(client, tenant)
        if keep or limit or reset:
            await change_rules(client, owner, keep or (), limit or (), reset or ())
        if compression is not None:
            level = media_pb2.Compression.Value(f"COMPRESSION_{compression.name}")
            await change(client, owner, media_pb2.MediaPolicy(compression=level), "compression")
        return await read_policy(client, owner)

    print_policy(call(context, work), as_json=as_json)


@app.command()
def prune(
    context: typer.Context,
    account: AccountFilter = "",
    category: CategoryFilter = "",
    type_: TypeFilter = "",
    older_than: OlderFilter = "",
    larger_than: LargerFilter = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing, say what would go.")] = False,
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Delete the files that all of the filters match, and wait until that is done."""
    wanted = _filter(account, category, type_, older_than, larger_than)

    async def work(client: Client) -> job_pb2.Job:
        owner = await tenant_id(client, tenant)
        request = media_pb2.PruneMediaRequest(tenant_id=owner, filter=wanted, dry_run=dry_run)
        job = (await client.media.PruneMedia(request)).job
        async for seen in client.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job.id)):
            job = seen.job
        return job

    job = call(context, work)
    if as_json:
        show([job], JOB_COLUMNS, as_json=True)
    elif job.state == job_pb2.JOB_STATE_SUCCEEDED:
        said = "Would delete {}, and free {}" if dry_run else "Deleted {}, and freed {}"
        say(said.format(files_text(job.done), bytes_text(job.done_bytes)))
    if job.state != job_pb2.JOB_STATE_SUCCEEDED:
        fail(
            f"job {job.id} ended otherwise: {job_pb2.JobState.Name(job.state)} {job.error.message}",
            EXIT_FAILED,
        )


app.command()(migrate)
app.command()(scan)


def _filter(account: str, category: str, type_: str, older: str, larger: str) -> media_pb2.MediaFilter:
    """What they say together."""
    wanted = media_pb2.MediaFilter(account_id=account, mime_type_prefix=type_)
    if category:
        wanted.category = category_of(category)
    if older:
        wanted.end_time.FromDatetime(datetime.now(UTC) - read_time(older))
    if larger:
        wanted.min_size_bytes = read_bytes(larger)
    return wanted
