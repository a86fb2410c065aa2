"""`mesh doctor`: checks this machine, the servers that the settings name, and the mesh."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mesh_cli.backup.settings import addresses_of
from mesh_cli.commands.doctor.findings import Finding, Verdict
from mesh_cli.commands.output import AsJson
from mesh_cli.commands.target import local_mesh
from mesh_cli.commands.terminal import wide_console

EXIT_WRONG = 1
_MARKS = {
    Verdict.GOOD: Text("✓", style="green"),
    Verdict.WARNING: Text("!", style="bold yellow"),
    Verdict.WRONG: Text("✗", style="bold red"),
}


def doctor(
    context: typer.Context,
    whatsapp: Annotated[
        bool, typer.Option("--whatsapp", help="Check the way to WhatsApp, too: it is asked for a web page.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the servers of the mesh, and its parts.

    Servers are those that the settings of the parts name (MESH_ETCD_ENDPOINTS and so on, or the file of
    MESH_CONFIG), else those of the mesh that runs on this machine. Each has five seconds to answer. A check
    is good (✓), a warning (!) or wrong (✗), and then says what to do.

    Exit code 1: something is wrong.
    """
    # The clients of all servers take a second to import, which other commands need not wait for.
    from mesh_cli.commands.doctor.asking import ask_all
    from mesh_cli.commands.doctor.machine import machine_findings, program_findings
    from mesh_cli.commands.doctor.servers import named_servers

    mesh = local_mesh(context.obj)
    environment = {**(addresses_of(mesh) if mesh else {}), **os.environ}
    named, problems = named_servers(environment)
    findings = [*machine_findings(context.obj.state_directory, environment)]
    if not (named or context.obj.address):
        findings += program_findings()
    if whatsapp:
        from mesh_cli.commands.doctor.whatsapp_checks import whatsapp_checks

        findings += whatsapp_checks()
    findings += [*problems, *asyncio.run(ask_all(named, environment, context.obj, mesh))]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        sys.exit(EXIT_WRONG)


def _show(findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 1))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(_MARKS[finding.verdict], finding.subject, Text(finding.seen))
        if finding.verdict is not Verdict.GOOD:
            table.add_row("", "", Text(finding.remedy, style="yellow"))
    console = wide_console()
    console.print(table)
    counts = Counter(finding.verdict for finding in findings)
    wrong, warnings = counts[Verdict.WRONG], counts[Verdict.WARNING]
    console.print(f"{len(findings)} checks: {wrong} wrong, {warnings} to look at", highlight=False)
