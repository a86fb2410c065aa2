package device

import (
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// attempted is a pairing whose time is over, and what it has said.
func attempted(t *testing.T, accepted bool) (*Device, *[]internalv1.DeviceEnd) {
	t.Helper()
	var ends []internalv1.DeviceEnd
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		ends = append(ends, said.GetEnded().GetEnd())
		return true
	})
	t.Cleanup(d.cancel)
	d.pairing = &pairing{device: d, request: &internalv1.PairDevice{Timeout: durationpb.New(0)}, done: accepted}
	d.store = rows.NewPairing("acc_1", d.pairing.complete)
	d.pairing.timeOut()
	return d, &ends
}

func TestAnAttemptThatNobodyAcceptedEndsWithItsTime(t *testing.T) {
	d, ends := attempted(t, false)
	if d.ctx.Err() == nil || len(*ends) != 1 || (*ends)[0] != internalv1.DeviceEnd_DEVICE_END_TIMED_OUT {
		t.Fatal(*ends)
	}
}

func TestAnAttemptThatSomebodyAcceptedOutlivesItsTime(t *testing.T) {
	if d, ends := attempted(t, true); d.ctx.Err() != nil || len(*ends) != 0 {
		t.Fatal("it is not stored, and the network holds it for linked: ", *ends)
	}
}
