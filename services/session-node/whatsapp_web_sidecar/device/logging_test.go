package device

import (
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

func TestTheLibraryIsHeardAsLongAsItsConnectionStands(t *testing.T) {
	lines := make(chan string, 4)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		if line := said.GetLog(); line != nil {
			lines <- line.GetMessage()
		}
		return true
	})
	d.store = rows.NewPairing("acc_1", nil)
	d.log.Sub("Socket").Errorf("broken %d", 1)
	if line := <-lines; line != "broken 1" {
		t.Fatal(line)
	}
	d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "linked", 0)
	left := d.log.budget.left
	d.log.Warnf("Closing handler queue loop in the middle of handling")
	d.log.Sub("Socket").Errorf("Failed to pair device: context canceled")
	if d.log.budget.left != left { // a line is taken from it before it is said
		t.Fatal("it complains of what ended well")
	}
}

func TestTheLogHasNobodysNumberAndNothingThatWasSaid(t *testing.T) {
	lines := make(chan *internalv1.LogLine, 1)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		lines <- said.GetLog()
		return true
	})
	person := types.NewADJID("4915112345678", 0, 3)
	stanza := &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"notify": "Anna"}, Content: []byte("words")}
	d.log.Warnf("Failed to decrypt 3EB012345678 of %s, %s_1:3, %s in %d", person, "123456789012345", stanza, 250)
	if line := (<-lines).GetMessage(); line != "Failed to decrypt 3EB012345678 of …:3@s.whatsapp.net, …_1:3, message in 250" {
		t.Fatal(line)
	}
	d.log.write(levelWarning, "a call", "from", "phone:+4915112345678")
	if line := <-lines; line.GetFields()["from"] != "phone:+…" || line.GetFields()["account_id"] != "acc_1" {
		t.Fatal(line)
	}
}
