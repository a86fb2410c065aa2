"""Steps of a pairing as the API shows them."""

from __future__ import annotations

import io
import time

import segno

from mesh_session_node.context.events import timestamp
from mesh_session_node.drivers.interface.pairing import PairingCode, PasskeyComparison, PasskeyRequest
from mesh_session_node.inbound.bounds import MAX_NAME, fit_text, fit_time
from sessionmesh.v1 import session_pb2 as pb

MAX_JSON = 65_536
"""Characters of a passkey's challenge or assertion."""


def code_step(code: PairingCode) -> pb.PairResponse:
    """What to show, as text, as a PNG and in block characters."""
    expire = timestamp(fit_time(code.expire_time, time.time_ns() // 1000))
    if not code.qr:
        return pb.PairResponse(code=pb.PairCode(code=code.letters, expire_time=expire))
    picture = segno.make(code.qr, error="l")
    png, terminal = io.BytesIO(), io.StringIO()
    picture.save(png, kind="png", scale=6)
    picture.terminal(terminal, compact=True)
    return pb.PairResponse(
        qr=pb.PairQr(text=code.qr, png=png.getvalue(), terminal=terminal.getvalue(), expire_time=expire)
    )


def question_step(step: PasskeyRequest | PasskeyComparison, until: float) -> pb.PairResponse:
    """What the person is to answer before `until`, in seconds since the epoch."""
    expire = timestamp(int(until * 1e6))
    if isinstance(step, PasskeyRequest):
        challenge = fit_text(step.options.decode(), MAX_JSON)
        return pb.PairResponse(passkey=pb.PairPasskey(challenge_json=challenge, expire_time=expire))
    code = fit_text(step.code, MAX_NAME)
    text = "The phone must show the same code." if code else "The phone asks whether to go on."
    return pb.PairResponse(confirm=pb.PairConfirm(code=code, text=text, expire_time=expire))
