package server_test

import (
	"slices"
	"testing"
	"time"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// took says what was done, one behind the other, since a moment.
func took(t *testing.T, since time.Time, steps []*internalv1.DeviceStep) []string {
	t.Helper()
	var names []string
	at := uint64(since.UnixNano())
	for _, step := range steps {
		if step.GetStartNanos() < at || step.GetEndNanos() < step.GetStartNanos() || step.GetEndNanos() > uint64(time.Now().UnixNano()) {
			t.Fatal(steps)
		}
		at = step.GetEndNanos()
		names = append(names, step.GetKind().String()[len("DEVICE_STEP_KIND_"):])
	}
	return names
}

func TestATracedMessageSaysWhatItTook(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	start := time.Now()
	id := newID()
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Send{Send: &internalv1.SendDeviceMessage{
		NetworkMessageId: id, Recipient: "phone:" + bert, Message: encoded(t, text("hello")), Traced: true,
	}}})
	if steps := took(t, start, l.acked(id).GetSteps()); !slices.Equal(steps, []string{"LOOK_UP", "ENCRYPT", "SEND", "WAIT"}) {
		t.Fatal(steps)
	}
	if steps := l.acked(l.send("phone:"+bert, text("hello"))).GetSteps(); len(steps) != 0 {
		t.Fatal("nobody wants to know ", steps)
	}
}

func TestAMessageThatCameSaysWhatItTook(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	start := time.Now()
	n.write(account, bert, "hello")
	steps := until(l, incoming).GetSteps()
	if len(steps) != 2 || steps[0].GetKind() != internalv1.DeviceStepKind_DEVICE_STEP_KIND_RECEIVE {
		t.Fatal(steps)
	}
	received, decrypted := steps[0], steps[1]
	took(t, start, steps[:1])
	if decrypted.GetKind() != internalv1.DeviceStepKind_DEVICE_STEP_KIND_DECRYPT || decrypted.GetStartNanos() < received.GetStartNanos() ||
		decrypted.GetEndNanos() > received.GetEndNanos() || decrypted.GetEndNanos() < decrypted.GetStartNanos() {
		t.Fatal(steps)
	}
}

func TestAFileSaysWhatItTook(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	start := time.Now()
	if steps := took(t, start, l.stow("document", []byte("a file")).GetSteps()); !slices.Equal(steps, []string{"ENCRYPT_FILE", "STORE_FILE"}) {
		t.Fatal(steps)
	}
	came := l.came(n, n.put([]byte("another")), []byte("another"))
	start = time.Now()
	_, done := l.fetch(came.GetFile())
	if steps := took(t, start, done.GetSteps()); !slices.Equal(steps, []string{"FETCH_FILE", "HAND_OVER_FILE"}) {
		t.Fatal(steps)
	}
}
