"""The guards of a node against its sidecar, each with the edit that removes it."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_DRIVER = "services/session-node/mesh_session_node/drivers/whatsapp_web"
_SIDECAR = "tests/integration/test_whatsapp_web_sidecar.py"
_LINK = "tests/integration/test_whatsapp_web_link.py"
_STREAM = "tests/unit/test_whatsapp_web_stream.py"
_PAIRING = "tests/integration/test_whatsapp_web_pairing.py"

SIDECAR = (
    Mutation(
        "the kernel kills a stopped sidecar with its node",
        f"{_DRIVER}/process.py",
        'launcher.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-"',
        'launcher.__file__, str(os.getpid()), "0", "-"',
        f"{_SIDECAR} -k 'dies_with_its_node and stopped'",
    ),
    Mutation(
        "a sidecar that hangs is killed",
        f"{_DRIVER}/sidecar.py",
        '        raise SidecarFailed("hung", f"it did not answer for {self._settings.hang_seconds:g} s")\n',
        "",
        f"{_SIDECAR} -k 'hangs'",
    ),
    Mutation(
        "a busy node does not take its own backlog for a sidecar that hangs",
        f"{_DRIVER}/stream.py",
        "            self.spoke.notify()\n",
        '            if response.WhichOneof("response") == "heard":\n                self.spoke.notify()\n',
        f"{_SIDECAR} -k behind",
    ),
    Mutation(
        "who begins a connection to a sidecar that is gone is told",
        f"{_DRIVER}/stream.py",
        "            self._loop.call_soon(self._tell_end)\n        return",
        "            pass\n        return",
        f"{_SIDECAR} -k begins_when_its_sidecar_is_gone",
    ),
    Mutation(
        "connections are closed once the sidecar is reaped, and no earlier",
        f"{_DRIVER}/connection.py",
        "        await asyncio.shield(self._closed)\n",
        "        await asyncio.sleep(0)\n",
        f"{_SIDECAR} -k reaped",
    ),
    Mutation(
        "what cannot be ends its own connection alone",
        f"{_DRIVER}/stream.py",
        '            receiver.broken(f"the sidecar said what cannot be: {type(error).__name__}")\n',
        "            raise\n",
        f"{_SIDECAR} -k cannot_be_ends",
    ),
    Mutation(
        "much of one connection keeps no other waiting",
        f"{_DRIVER}/stream.py",
        "                number = next(iter(self._waiting))\n",
        "                number = min(self._waiting)\n",
        f"{_STREAM} -k keeps_no_other_waiting",
    ),
    Mutation(
        "answers wait while there is no room",
        f"{_DRIVER}/stream.py",
        "lambda: self._bytes <= ROOM_BYTES or self.ended",
        "lambda: True",
        f"{_STREAM} -k until_there_is_room",
    ),
    Mutation(
        "an answer is bounded",
        f"{_DRIVER}/connection.py",
        "            if sum(map(len, found.values())) > MAX_ANSWER_BYTES:\n",
        "            if False:\n",
        f"{_LINK} -k asks_for_too_much",
    ),
    Mutation(
        "what comes with a login is bounded",
        f"{_DRIVER}/driver.py",
        "        if sum(map(len, needed.values())) > MAX_ANSWER_BYTES:\n",
        "        if False:\n",
        f"{_LINK} -k too_much_for_its_logins",
    ),
    Mutation(
        "the steps of a pairing that wait are bounded",
        f"{_DRIVER}/pairing.py",
        "        if self._steps.qsize() >= MAX_STEPS:\n",
        "        if False:\n",
        f"{_PAIRING} -k nobody_looks_at",
    ),
    Mutation(
        "what the network has of an account is bounded in bytes",
        "services/session-node/mesh_session_node/outbound/in_flight.py",
        " or self._bytes >= MAX_IN_FLIGHT_BYTES",
        "",
        "tests/unit/test_session_sender.py -k some_bytes",
    ),
    Mutation(
        "what waits to be stored is bounded for each connection",
        f"{_DRIVER}/connection.py",
        "        if self.unsettled >= MAX_UNSETTLED:\n",
        "        if self.unsettled < 0:\n",
        f"{_SIDECAR} -k too_much_to_store",
    ),
    Mutation(
        "what waits for a sidecar that does not read is bounded",
        f"{_DRIVER}/stream.py",
        "        if self._bytes > MAX_WAITING_BYTES and unread >= self._hang_seconds:\n",
        "        if self._bytes < 0:\n",
        f"{_STREAM} -k bounded",
    ),
    Mutation(
        "what a slow sidecar has not read goes no further once its connection closes",
        f"{_DRIVER}/stream.py",
        "        self._transport.set_write_buffer_limits(high=0)\n",
        "",
        f"{_STREAM} -k slow_sidecar_has_not_read",
    ),
    Mutation(
        "nothing of a closed connection is written any more",
        f"{_DRIVER}/stream.py",
        "            self._silent.add(number)\n",
        "",
        f"{_LINK} -k waits_to_be_written",
    ),
    Mutation(
        "the sidecar is told what became of rows, and not before",
        f"{_DRIVER}/connection.py",
        "        stored.add_done_callback(lambda done: self.settled(write.sequence, stored=done.result()))\n",
        "        self.settled(write.sequence, stored=True)\n",
        f"{_LINK} -k what_became_of_rows",
    ),
    Mutation(
        "the network is told of a new device once it is stored, and not before",
        f"{_DRIVER}/pairing.py",
        "        self._unsettled.append(write.sequence)\n",
        "        settled = pb.RowsSettled(sequence=write.sequence, stored=True)\n"
        "        self._ask(pb.RunRequest(rows_settled=settled))\n",
        f"{_PAIRING} -k only_once_it_is_stored",
    ),
    Mutation(
        "what a recipient could not read stays asked for while it cannot be looked up",
        "services/session-node/mesh_session_node/outbound/preparation.py",
        '            raise StateUnavailable(f"the message cannot be read: {error}") from error\n',
        "            return None\n",
        "tests/unit/test_session_preparation.py -k asked_for_again",
    ),
)
