package device

import (
	"fmt"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

func nack(id, code string) *waBinary.Node {
	return &waBinary.Node{Tag: "ack", Attrs: waBinary.Attrs{"class": "message", "id": id, "error": code}}
}

func TestOfTwoRefusalsAtOnceEachIsKnown(t *testing.T) {
	p, _ := attempt(t)
	p.device.see(nack("A", "463"))
	p.device.see(nack("B", "429"))
	refused := fmt.Errorf("%w 463", whatsmeow.ErrServerReturnedError)
	for id, want := range map[string]internalv1.DeviceRejection{
		"A": internalv1.DeviceRejection_DEVICE_REJECTION_RESTRICTED,
		"B": internalv1.DeviceRejection_DEVICE_REJECTION_RATE_LIMITED,
		"C": internalv1.DeviceRejection_DEVICE_REJECTION_OTHER,
	} {
		if reason, _ := p.device.reasonOf(refused, &internalv1.SendDeviceMessage{NetworkMessageId: id}); reason != want {
			t.Error(id, reason)
		}
	}
}

func TestRefusalsThatNobodyAsksForAreBounded(t *testing.T) {
	var told nacks
	for i := range 10 * maxNacks {
		told.see(nack(fmt.Sprint(i), "463"))
	}
	if len(told.codes) != maxNacks || len(told.order) != maxNacks || told.of(fmt.Sprint(10*maxNacks-1)) != 463 {
		t.Fatal(len(told.codes), len(told.order))
	}
}

func TestAQuestionThatTheNetworkCannotAnswerNowRefusesNoMessage(t *testing.T) {
	p, _ := attempt(t)
	for code, want := range map[int]internalv1.DeviceRejection{
		500: internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT,
		503: internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT,
		429: internalv1.DeviceRejection_DEVICE_REJECTION_RATE_LIMITED,
		418: internalv1.DeviceRejection_DEVICE_REJECTION_OTHER,
	} {
		asked := fmt.Errorf("failed to look up devices: %w", &whatsmeow.IQError{Code: code})
		if reason, _ := p.device.reasonOf(asked, &internalv1.SendDeviceMessage{}); reason != want {
			t.Error(code, reason)
		}
	}
}
