package device

import (
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// Letting go of a connection makes the library say that it was lost, possibly before the reason is said.
func TestWhyAConnectionEndedIsSaidAndNotWhatFollowsFromIt(t *testing.T) {
	var said []internalv1.DeviceEnd
	d := newDevice(1, "acc_1", nil, func(response *internalv1.RunResponse) bool {
		said = append(said, response.GetEnded().GetEnd())
		return true
	})
	d.store = rows.New("acc_1", d)
	cancel, told := d.cancel, false
	d.cancel = func() {
		cancel()
		if !told {
			told = true
			d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "", 0)
		}
	}
	d.end(internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED, "", 0)
	if len(said) != 1 || said[0] != internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED {
		t.Errorf("%v", said)
	}
}
