"""The sidecar of linked devices by its own tests, in Go, beside it: what it does with ratchets and rows, and
the rest against the network of WhatsApp Web's protocol.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.builds import run
from tests.support.tools import require_on_path

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "services" / "session-node" / "whatsapp_web_sidecar"
LIKE_THE_PROGRAM = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
"""As `deploy/tools/build-go` builds it: what both need is compiled once."""
GUARDS = (
    "TestADeviceThatIsNotStoredIsNotPaired",
    "TestAMessageThatWasNotStoredIsReadByTheNextOwner",
    "TestAMessageToSomebodyElseIsNotHandedOver",
    "TestARequestForAMessageThatCannotBeReadStaysWithTheNetwork",
    "TestASessionStaysStorableWhateverIsSkipped",
    "TestATextThatIsNoneDoesNotEndTheStreamOfAll",
    "TestAnEncryptionOutsideASendHoldsTheRatchet",
    "TestArchivedSessionsStayWhole",
    "TestDecryptingWaitsForEncryptingAndTheOtherWayRound",
    "TestMemoryIsBoundedWhateverManyPeopleWrite",
    "TestNoMoreIsKeptOfAFileThanItsMessageSays",
    "TestNoMorePeopleAreLookedUpThanAMessageMayMention",
    "TestNobodyIsAskedForARowThatCannotBe",
    "TestNothingIsEncryptedBeforeTheMessageIsStored",
    "TestNothingLeavesThatIsNotStored",
    "TestNothingLeavesToAGroupThatIsNotStored",
    "TestRowsThatCannotBeUsed",
    "TestTheNextOwnerSkipsInGroups",
    "TestTheNextOwnerSkipsWhatTheLastOneMayHaveUsed",
    "TestWhatADecryptionChangedIsStoredWithItsMessageAndNotBefore",
    "TestWhatCannotBeARowDoesNotHoldUpTheMessageThatBringsIt",
    "TestWhatIsKeptOfAMessageIsStoredWithIt",
    "TestWhatIsNotStoredIsCancelled",
    "TestWhatIsTooOldGoesWithTheNextLogin",
    "TestWhatOthersSendIsBoundedInNumberAndTheOldestGoes",
    "TestWhereAFileIsIsStoredBeforeItsMessageLeaves",
)


@pytest.fixture(scope="module", autouse=True)
def go() -> None:
    require_on_path("go", "the sidecar of linked devices")
    if not (ROOT / "gen-go").exists():
        run([str(ROOT / "deploy" / "tools" / "build-go"), "stubs"], ROOT)


@pytest.mark.parametrize("test", GUARDS)
def test_a_guard_of_a_linked_device_holds(test: str) -> None:
    packages = ("./rows", "./device", "./content", "./server")
    run(["go", "test", "-count=1", "-run", f"^{test}$", *packages], MODULE, LIKE_THE_PROGRAM)


def test_the_sidecar_does_what_its_tests_say() -> None:
    run([str(ROOT / "deploy" / "tools" / "build-go"), "stubs"], ROOT)
    run([str(ROOT / "deploy" / "tools" / "build-go"), "whatsapp-web-network"], ROOT)
    assert run(["gofmt", "-l", "."], MODULE) == ""
    run(["go", "vet", "./..."], MODULE, LIKE_THE_PROGRAM)
    network = {"MESH_WHATSAPP_WEB_NETWORK": str(ROOT / ".venv" / "bin" / "whatsapp-web-network")}
    run(["go", "test", "./..."], MODULE, LIKE_THE_PROGRAM | network)
