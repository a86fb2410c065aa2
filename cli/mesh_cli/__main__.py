"""`mesh`: runs the parts, the one-machine stack, and the everyday commands."""

from __future__ import annotations

import typer

from mesh_cli.commands import (
    account,
    backup,
    chat,
    contact,
    db,
    endpoint,
    events,
    group,
    job,
    key,
    log,
    message,
    parts,
    session,
    tenant,
)
from mesh_cli.commands.audit import audit
from mesh_cli.commands.doctor.command import doctor
from mesh_cli.commands.fleet.app import app as fleet_app
from mesh_cli.commands.info import info
from mesh_cli.commands.media.app import app as media_app
from mesh_cli.commands.pair import pair
from mesh_cli.commands.plan import plan
from mesh_cli.commands.restore import restore_command
from mesh_cli.commands.secrets import make_secrets
from mesh_cli.commands.send import send
from mesh_cli.commands.target import remember_target
from mesh_cli.commands.top.command import top
from mesh_cli.commands.trace import trace
from mesh_cli.commands.up import up
from mesh_cli.commands.xds_bootstrap import xds_bootstrap
from mesh_cli.demo.command import demo

app = typer.Typer(
    name="mesh",
    help="Sessionmesh: thousands of WhatsApp accounts behind one gRPC API.\n\n"
    "These options stand before the command, such as in `mesh --state DIR account list`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.callback()(remember_target)

HERE = "On this machine"
app.command(rich_help_panel=HERE)(up)
app.command(rich_help_panel=HERE)(demo)
app.command(rich_help_panel=HERE)(doctor)

USE = "Use a mesh"
app.command(rich_help_panel=USE)(info)
app.add_typer(tenant.app, name="tenant", rich_help_panel=USE)
app.add_typer(key.app, name="key", rich_help_panel=USE)
app.add_typer(account.app, name="account", rich_help_panel=USE)
app.add_typer(session.app, name="session", rich_help_panel=USE)
app.command(rich_help_panel=USE)(pair)
app.command(rich_help_panel=USE)(send)
app.add_typer(contact.app, name="contact", rich_help_panel=USE)
app.add_typer(message.app, name="message", rich_help_panel=USE)
app.add_typer(chat.app, name="chat", rich_help_panel=USE)
app.add_typer(group.app, name="group", rich_help_panel=USE)
app.add_typer(media_app, name="media", rich_help_panel=USE)
app.add_typer(endpoint.app, name="endpoint", rich_help_panel=USE)
app.add_typer(events.app, name="events", rich_help_panel=USE)
app.command(rich_help_panel=USE)(trace)
app.command(rich_help_panel=USE)(xds_bootstrap)

OPERATE = "Operate a mesh"
app.command(rich_help_panel=OPERATE)(top)
app.add_typer(fleet_app, name="fleet", rich_help_panel=OPERATE)
app.add_typer(job.app, name="job", rich_help_panel=OPERATE)
app.add_typer(log.app, name="log", rich_help_panel=OPERATE)
app.command(rich_help_panel=OPERATE)(audit)
app.add_typer(backup.app, name="backup", rich_help_panel=OPERATE)
app.command(name="restore", rich_help_panel=OPERATE)(restore_command)

DEPLOY = "Deploy"
app.add_typer(db.app, name="db", rich_help_panel=DEPLOY)
app.command(rich_help_panel=DEPLOY)(plan)
app.command(name="secrets", rich_help_panel=DEPLOY)(make_secrets)
app.command(rich_help_panel=DEPLOY)(parts.router)
for command in parts.COMMANDS:
    app.command(name=command.name, help=command.help, rich_help_panel=DEPLOY)(command.run)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
