package device

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// sentBefore gives the library what it does not remember of the messages that the account sent, when somebody who could
// not decrypt one asks for it again: it remembers some hundred, and none that another sidecar sent. It asks one by one.
type sentBefore struct {
	store.EventBuffer
	device *Device
}

var errNotKept = errors.New("no such message is kept for this chat")

// GetOutgoingEvent asks the node for a message to a chat, which has two names where it is a person's. An error that wraps
// context.Canceled leaves the request with the network, which brings it again after the next login.
func (s sentBefore) GetOutgoingEvent(ctx context.Context, chat, other types.JID, id types.MessageID) (string, []byte, error) {
	d := s.device
	read, err := question(ctx, d, d.recalling, func(sequence uint64) *internalv1.RunResponse {
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_ReadMessage{ReadMessage: &internalv1.ReadMessage{
			Sequence: sequence, NetworkMessageId: id,
		}}}
	})
	if err != nil {
		return "", nil, err
	}
	to, err := d.recipient(read.GetRecipient())
	if err != nil || to.IsEmpty() {
		return "", nil, errNotKept
	}
	if to != chat && to != other { // whoever asks may have seen the id of a message to somebody else
		return "", nil, errNotKept
	}
	out, err := d.written(id, to, read.GetMessage())
	if err != nil {
		return "", nil, fmt.Errorf("it cannot be said again: %w", err)
	}
	encoded, err := proto.Marshal(out.Message)
	return "wa", encoded, err
}

// MessageRead is what the node answers to GetOutgoingEvent.
func (d *Device) MessageRead(read *internalv1.MessageRead) {
	answered(d, d.recalling, read.GetSequence(), read)
}
