package device

import (
	"time"

	"go.mau.fi/whatsmeow"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// Step is something that was done, for the node's traces.
func Step(kind internalv1.DeviceStepKind, start, end time.Time) *internalv1.DeviceStep {
	return &internalv1.DeviceStep{Kind: kind, StartNanos: uint64(start.UnixNano()), EndNanos: uint64(end.UnixNano())}
}

// sendSteps are what sending a message took, one behind the other; nil: nobody wants to know.
type sendSteps struct {
	at    time.Time
	steps []*internalv1.DeviceStep
}

func stepsOf(message *internalv1.SendDeviceMessage) *sendSteps {
	if !message.GetTraced() {
		return nil
	}
	return &sendSteps{at: time.Now()}
}

// sent notes what the library says of a message that it began to send at a moment.
func (s *sendSteps) sent(began time.Time, took whatsmeow.MessageDebugTimings) {
	if s == nil {
		return
	}
	encrypting := began.Add(took.LIDFetch + took.Queue + took.GetParticipants + took.GetDevices + took.Marshal)
	s.until(internalv1.DeviceStepKind_DEVICE_STEP_KIND_LOOK_UP, encrypting)
	sending := encrypting.Add(took.GroupEncrypt + took.PeerEncrypt)
	s.until(internalv1.DeviceStepKind_DEVICE_STEP_KIND_ENCRYPT, sending)
	if took.Send > 0 { // else it did not come so far
		s.until(internalv1.DeviceStepKind_DEVICE_STEP_KIND_SEND, sending.Add(took.Send))
		s.until(internalv1.DeviceStepKind_DEVICE_STEP_KIND_WAIT, time.Now())
	}
}

func (s *sendSteps) until(kind internalv1.DeviceStepKind, end time.Time) {
	if end.After(s.at) {
		s.steps = append(s.steps, Step(kind, s.at, end))
		s.at = end
	}
}

func (s *sendSteps) all() []*internalv1.DeviceStep {
	if s == nil {
		return nil
	}
	return s.steps
}

// receiveSteps are what a message took that is about to be handed over.
func (d *Device) receiveSteps() []*internalv1.DeviceStep {
	now := time.Now()
	came := time.Unix(0, d.came.Load())
	steps := []*internalv1.DeviceStep{Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_RECEIVE, came, now)}
	if start, end := d.store.DecryptedBetween(); !start.IsZero() {
		steps = append(steps, Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_DECRYPT, start, end))
	}
	return steps
}
