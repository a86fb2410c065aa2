"""The parent of a session-node: `mesh_parent watchdog [--silence SECONDS] -- COMMAND...`.

Runs COMMAND as its child, which says through a page of shared memory by when it must be gone. The child is
killed (SIGKILL) at that instant, or when its event loop or its keeper gave no heartbeat for 10 seconds. Once
it is reaped, and no earlier, its incarnation is recorded as dead in etcd and its lease revoked, so that
others take over at once; then it is started again, with a backoff. Where there are others it waits for 2.5
seconds at least: they have its accounts, and whatever starts on the same machine holds up their logins. It
dies with its parent.

SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 are passed on. The watchdog ends, with the child's exit code (128
+ signal when a signal ended it), once the child ended after SIGTERM or SIGINT, or by a signal that was passed
on, or with exit code 64 (bad settings) or 78 (something must be changed first). `--silence` is for tests.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time

from mesh_parent.children import (
    EXIT_BAD_SETTINGS,
    FINAL,
    SAID_WHY,
    Children,
    RestartBackoff,
    boottime,
    ending_facts,
    reap,
    shell_code,
)
from mesh_parent.etcd_gateway import Gateway
from mesh_parent.log import Log
from mesh_parent.page import VARIABLE, Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

log = Log("sessionmesh-watchdog")

SILENCE_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""How often the page is read, and so how soon a deadline that was moved nearer is seen."""
FROZEN_SECONDS = 1.0
"""When a look is late by this much, this process was stopped, and perhaps the child with it."""
THAW_SECONDS = 2.0
"""How long after that no silence counts: the child gets time for a heartbeat. Its deadline counts at once."""

ROUND_PAUSE_SECONDS = 0.2
RECORD_SECONDS = 3.0
"""How long etcd is tried, every endpoint in turn, before the child is started again."""
OTHERS_FIRST_SECONDS = 2.5
"""How long the others that take over go before a child's start."""
EVIDENCE_TTL_SECONDS = 600
"""Longer than anyone needs it: whoever takes a shard over marks the incarnation as expired for good."""

ENDING = (signal.SIGTERM, signal.SIGINT)
PASSED_ON = (*ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: list[str]) -> int:
    """Watch the command until it ends for good; returns the exit code."""
    silence = SILENCE_SECONDS
    match arguments:
        case ["--", *command] if command:
            pass
        case ["--silence", seconds, "--", *command] if command:
            silence = float(seconds)
        case _:
            os.write(2, b"usage: watchdog [--silence SECONDS] -- COMMAND...\n")
            return EXIT_BAD_SETTINGS
    return Watchdog(command, silence).run()


class Watchdog:
    """Starts the command again and again, and watches each child until it has ended."""

    def __init__(self, command: list[str], silence: float) -> None:
        self._command = command
        self._silence = silence
        self._asked_to_end = False
        self._passed_on: set[int] = set()
        self._children = Children(PASSED_ON)

    def run(self) -> int:
        backoff = RestartBackoff()
        while True:
            page = Page()
            backoff.started()
            self._passed_on.clear()
            pid = self._children.start(self._command, {VARIABLE: str(page.descriptor)}, [page.descriptor])
            log.info("child started", pid=pid)
            code, reason = self._watch(pid, page)
            others = _reaped(pid, code, reason, page)
            page.close()
            if self._asked_to_end or code in FINAL or -code in self._passed_on:
                return shell_code(code)
            seconds = max(backoff.ended(), OTHERS_FIRST_SECONDS if others else 0.0)
            if code not in SAID_WHY:
                log.info("restarting the child", seconds=seconds)
            if ending := self._pause(seconds):
                return 128 + ending

    def _watch(self, pid: int, page: Page) -> tuple[int, str]:
        """Wait until the child is reaped; returns its exit code, and why it was killed if we did that."""
        reason = ""
        looked, lenient_until = boottime(), 0.0
        while True:
            if (code := dict(reap()).get(pid)) is not None:
                return code, reason
            now = boottime()
            if now - looked > FROZEN_SECONDS:
                lenient_until = now + THAW_SECONDS
            looked = now
            silence = math.inf if now < lenient_until else self._silence
            if not reason and (reason := page.verdict(now, silence)):
                os.kill(pid, signal.SIGKILL)
                log.error("child killed", pid=pid, reason=reason)
            left = math.inf if reason else page.kill_at - boottime()
            self._pass_on(self._children.next_signal(min(left, LOOK_SECONDS)), pid)

    def _pass_on(self, number: int, pid: int) -> None:
        if number in PASSED_ON:
            os.kill(pid, number)
            self._passed_on.add(number)
            self._asked_to_end |= number in ENDING

    def _pause(self, seconds: float) -> int:
        """Wait that long, without a child; returns the signal that asks to end, if one came."""
        until = boottime() + seconds
        while (left := until - boottime()) > 0:
            number = self._children.next_signal(left)
            for _ in reap():  # orphans
                pass
            if number in ENDING:
                return number
        return 0


def _reaped(pid: int, code: int, reason: str, page: Page) -> bool:
    """Tell of the child's end; whether others take its place."""
    facts = {"pid": pid, **ending_facts(code)}
    hello, others = page.hello(), False
    if code != 0 and hello:
        others = _record_dead(hello, page.lease, facts | {"reason": reason})
    if code not in SAID_WHY:
        log.child_ended("child ended", code, facts)
    return others


def _record_dead(hello: Mapping[str, Any], lease: int, facts: Mapping[str, Any]) -> bool:
    """Record the child as dead and revoke its lease; without etcd the lease expires by itself. Whether there
    are other nodes, as far as is known.
    """
    incarnation, began = hello["incarnation"], time.monotonic()
    cluster = f"/{hello['cluster']}/"
    failure = ""
    while time.monotonic() - began < RECORD_SECONDS:
        for endpoint in hello["endpoints"]:
            try:
                gateway = Gateway(endpoint, hello)
                # The evidence first: with the lease its keys vanish, and the others look for the evidence.
                gateway.put(f"{cluster}dead/{incarnation}", json.dumps(dict(facts)), EVIDENCE_TTL_SECONDS)
                if lease:
                    gateway.revoke(lease)
            except (OSError, ValueError, LookupError) as error:
                failure = f"{endpoint}: {error}"
                continue
            took = round((time.monotonic() - began) * 1000, 1)
            log.info("recorded dead in etcd", incarnation=incarnation, milliseconds=took)
            return _has_others(gateway, cluster)
        time.sleep(ROUND_PAUSE_SECONDS)
    log.error("not recorded dead in etcd", incarnation=incarnation, reason=failure)
    return False


def _has_others(gateway: Gateway, cluster: str) -> bool:
    try:
        return gateway.any_under(f"{cluster}nodes/")
    except (OSError, ValueError, LookupError):
        return False
