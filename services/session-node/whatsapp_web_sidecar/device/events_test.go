package device

import (
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

func TestALoginIsRefusedWhereTheNetworkSaysSoAndElseTheLineIsLost(t *testing.T) {
	refused := &waBinary.Node{Tag: "failure", Attrs: waBinary.Attrs{"reason": "503"}}
	other := &waBinary.Node{Tag: "ib"}
	for why, said := range map[internalv1.DeviceEnd]*waBinary.Node{
		internalv1.DeviceEnd_DEVICE_END_REFUSED: refused,
		internalv1.DeviceEnd_DEVICE_END_LOST:    other,
	} {
		p, ended := attempt(t)
		p.device.see(said)
		p.device.onDisconnected()
		if ended() != why {
			t.Error(why, ended())
		}
	}
}
