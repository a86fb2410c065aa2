"""Pairing an account: the steps that a network asks for, and the answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mesh_session_node.drivers.interface.state import DriverState, RowChange


@dataclass(frozen=True, slots=True)
class PairingCode:
    """What to show: the text of a QR code, or eight letters. Times are microseconds since the epoch."""

    qr: str
    letters: str
    expire_time: int


@dataclass(frozen=True, slots=True)
class PasskeyRequest:
    """The network wants the account's passkey: JSON of WebAuthn's PublicKeyCredentialRequestOptions."""

    options: bytes


@dataclass(frozen=True, slots=True)
class PasskeyComparison:
    """The person is to see that the phone shows the same code; "": only to go on."""

    code: str


@dataclass(frozen=True, slots=True)
class Paired:
    """Somebody accepted: the account's state, and the rows of it. All of it is stored, or nothing."""

    state: DriverState
    rows: Sequence[RowChange] = ()


PairingStep: TypeAlias = PairingCode | PasskeyRequest | PasskeyComparison | Paired


class Pairing(AsyncIterable[PairingStep], Protocol):
    """One attempt: its steps, each in place of the one before, and `Paired` as the last. They end without it
    when nobody accepted in time. The first step is what begins it.

    Iterating raises `PairingRefused` and `ConnectionEnded`.
    """

    async def __anext__(self) -> PairingStep:
        """The next step; ends with `StopAsyncIteration`."""

    def answer_passkey(self, credential: bytes) -> None:
        """What the passkey answered to the `PasskeyRequest` that is the present step: JSON of WebAuthn's
        PublicKeyCredential.
        """

    def confirm_passkey(self) -> None:
        """The person saw the codes of the present `PasskeyComparison`, and they are the same."""

    async def stored(self) -> None:
        """What `Paired` brought is stored: let the network know, and wait until it takes a login. Never
        raises: whether the pairing holds, the first login tells.
        """

    async def aclose(self) -> None:
        """Give the attempt up, or let go of what it needed; nothing comes any more."""


class PlainPairing:
    """The `Pairing` of a network that asks for no passkeys: its steps come from a generator."""

    def __init__(self, steps: AsyncGenerator[PairingStep, None]) -> None:
        self._steps = steps

    def __aiter__(self) -> PlainPairing:
        return self

    async def __anext__(self) -> PairingStep:
        return await anext(self._steps)

    def answer_passkey(self, credential: bytes) -> None:
        raise RuntimeError("the network has not asked for a passkey")

    def confirm_passkey(self) -> None:
        raise RuntimeError("the network has nothing to compare")

    async def stored(self) -> None:
        """The network asks for nothing more."""

    async def aclose(self) -> None:
        await self._steps.aclose()
