package device

import (
	"testing"

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
