"""What the last test run has shown of deploying and operating the mesh, as its tests counted it.

    python -m tests.deploy_report [--json F] [--records DIR]...

    deploy_mutations            changes to one line of a file under `deploy/`, or of what one renders
    deploy_mutations_noticed    of these, those that a test's check found
    rolling_failed_calls        calls that failed while every part of a deployment was rolled, under load
    alerts                      alerts of the rules
    alerts_fired_for_real       of these, those that a real mesh made fire
    alerts_excused              of these, those that no test makes fire, with the reason
    runbooks                    pages that tell what to do about an alert
    operands_without_data       series that an expression asks for and a running mesh does not export
    metrics_undocumented        metrics that a running mesh exports and the catalogue does not have
    restore_duplicates          messages that the network got twice across a restore
    restore_ratchet_reuse       ratchet positions used twice across a restore
    restore_repaired            accounts that must be paired anew after a restore

A test counts with pytest's `record_property("rolling_failed_calls", failed)`; what several tests count
under one name is added. A figure is missing where no test of the run counted it. Records are those of the
last run of pytest (`tests/support/answers`), be it of one test or of all; with `--records`, of others, added.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.answers.plugin import last_run
from tests.support.answers.records import Records
from tests.support.answers.sitecustomize import FOLDER_VARIABLE

ROOT = Path(__file__).parents[1]
FIGURES = (
    "deploy_mutations",
    "deploy_mutations_noticed",
    "rolling_failed_calls",
    "alerts",
    "alerts_fired_for_real",
    "alerts_excused",
    "runbooks",
    "operands_without_data",
    "metrics_undocumented",
    "restore_duplicates",
    "restore_ratchet_reuse",
    "restore_repaired",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.deploy_report", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--records", type=Path, action="append", help="of which run; may be repeated")
    options = parser.parse_args(arguments)
    folders = options.records or [Path(os.environ.get(FOLDER_VARIABLE) or last_run(ROOT))]
    report = figures(Records(folder) for folder in folders)
    for name, value in report.items():
        print(f"{name:28}{value:>10g}")
    if missing := [name for name in FIGURES if name not in report]:
        print(f"\nNot counted by the tests that ran: {', '.join(missing)}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def figures(runs: Iterable[Records]) -> dict[str, float]:
    """The sums of what tests counted, in the order of `FIGURES`."""
    counted = [window.figures for records in runs for lane in records.windows.values() for window in lane]
    return {
        name: sum(float(each[name]) for each in counted if name in each)
        for name in FIGURES
        if any(name in each for each in counted)
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
