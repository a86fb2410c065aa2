package device

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

const (
	// What may wait to be sent by one account.
	maxQueued      = 1024
	maxQueuedBytes = 8 << 20
	// How long the network may take to acknowledge a message: then it is sent again, with the same id.
	sendTimeout = 30 * time.Second
)

// queue is what an account is to send, in order: the library sends one message of an account at a time.
type queue struct {
	waiting []*internalv1.SendDeviceMessage
	bytes   int
	running bool
}

// Send queues a message. It never waits.
func (d *Device) Send(message *internalv1.SendDeviceMessage) {
	size := len(message.GetMessage())
	d.mu.Lock()
	full := len(d.queue.waiting) >= maxQueued || d.queue.bytes+size > maxQueuedBytes
	if !full {
		d.queue.waiting = append(d.queue.waiting, message)
		d.queue.bytes += size
		if !d.queue.running {
			d.queue.running = true
			go d.sendAll()
		}
	}
	d.mu.Unlock()
	if full {
		go d.reject(message, internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, "the account's queue is full", 0)
	}
}

func (d *Device) sendAll() {
	for {
		d.mu.Lock()
		if len(d.queue.waiting) == 0 || d.ctx.Err() != nil {
			d.queue = queue{}
			d.mu.Unlock()
			return
		}
		message := d.queue.waiting[0]
		d.queue.waiting = d.queue.waiting[1:]
		d.queue.bytes -= len(message.GetMessage())
		d.mu.Unlock()
		d.sendOne(message)
	}
}

func (d *Device) sendOne(message *internalv1.SendDeviceMessage) {
	if d.loggedIn() == nil {
		d.reject(message, internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, "not logged in", 0)
		return
	}
	sent, err := d.send(message)
	if err != nil {
		reason, code := reasonOf(err)
		if d.ctx.Err() != nil || !d.client.IsConnected() { // whatever it says, nobody has refused the message
			reason, code = internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, 0
		}
		d.reject(message, reason, err.Error(), code)
		return
	}
	acked := &internalv1.MessageAcked{NetworkMessageId: message.GetNetworkMessageId(), Time: timestamppb.New(sent.Timestamp)}
	if address.IsPerson(sent.Chat) {
		acked.Recipient = d.identityOf(sent.Chat, types.EmptyJID, "")
	}
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Acked{Acked: acked}})
}

func (d *Device) send(message *internalv1.SendDeviceMessage) (whatsmeow.SendResponse, error) {
	var none whatsmeow.SendResponse
	to, err := address.Parse(message.GetRecipient())
	if err != nil {
		return none, errUnknownRecipient
	}
	if to.Server == types.NewsletterServer { // whose files are stored otherwise
		return none, content.ErrUnsupported
	}
	if err := d.lookUp(to); err != nil {
		return none, err
	}
	id := message.GetNetworkMessageId()
	out, err := d.written(id, to, message.GetMessage())
	if err != nil {
		return none, err
	}
	sending, done := d.store.Sending(d.ctx)
	defer done()
	if len(out.Answers) > 0 {
		if err := d.store.KeepOwnPoll(sending, id, out.Answers); err != nil {
			return none, err
		}
	}
	if to == types.StatusBroadcastJID {
		if sending, err = d.toAudience(sending, out.Audience); err != nil {
			return none, err
		}
	}
	extra := whatsmeow.SendRequestExtra{ID: id, Timeout: sendTimeout}
	if out.Beside != nil {
		beside := append([]waBinary.Node(nil), out.Beside...)
		extra.AdditionalNodes = &beside
	}
	return d.client.SendMessage(sending, to, out.Message, extra)
}

// toAudience has a status post go to the people named. Where the account's settings name others the library would send
// it to those.
func (d *Device) toAudience(sending context.Context, named []string) (context.Context, error) {
	var people []types.JID
	for _, one := range named {
		jid, err := address.Parse(one)
		if err != nil {
			return nil, fmt.Errorf("%w: %s cannot see it", content.ErrInvalid, one)
		}
		people = append(people, jid)
	}
	privacy, err := d.client.GetStatusPrivacy(sending)
	if err != nil {
		return nil, err
	}
	if len(people) == 0 || privacy[0].Type == types.StatusPrivacyTypeWhitelist {
		return nil, fmt.Errorf("%w: the account's settings say who sees it, and not the post", content.ErrUnsupported)
	}
	return rows.WithAudience(sending, people), nil
}

// written is a message in the network's form, from a serialised DeviceMessage.
func (d *Device) written(id string, to types.JID, message []byte) (*content.Outgoing, error) {
	var said internalv1.DeviceMessage
	if err := proto.Unmarshal(message, &said); err != nil {
		return nil, fmt.Errorf("%w: %w", content.ErrInvalid, err)
	}
	writer := content.Writer{Own: d.client.Store.GetJID(), OwnHidden: d.client.Store.GetLID(), Chat: to, Secret: d.secretOf(id)}
	out, err := writer.Write(&said)
	if err != nil {
		return nil, err
	}
	if out.Vote != nil {
		if out.Message, err = d.client.BuildPollVote(d.ctx, &out.Vote.Poll, out.Vote.Answers); err != nil {
			return nil, fmt.Errorf("%w: %w", content.ErrInvalid, err)
		}
	}
	return out, nil
}

var errUnknownRecipient = errors.New("nobody has that number or address")

// lookUp asks the network who has a number that the account has not written to yet: the library would say of nobody's
// number only in words that it has no hidden id.
func (d *Device) lookUp(to types.JID) error {
	if to.Server != types.DefaultUserServer {
		return nil
	}
	if hidden, err := d.store.GetLIDForPN(d.ctx, to); err != nil || !hidden.IsEmpty() {
		return err
	}
	answers, err := d.client.IsOnWhatsApp(d.ctx, []string{"+" + to.User})
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if !answer.IsIn {
			return errUnknownRecipient
		}
	}
	return nil
}

// secretOf is a secret of the device and a message, the same on every attempt to send it: votes are encrypted with the
// one that arrived.
func (d *Device) secretOf(id string) []byte {
	mac := hmac.New(sha256.New, d.client.Store.IdentityKey.Priv[:])
	mac.Write([]byte("sessionmesh message secret\x00" + id))
	return mac.Sum(nil)
}

func (d *Device) reject(message *internalv1.SendDeviceMessage, reason internalv1.DeviceRejection, detail string, code uint32) {
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Rejected{Rejected: &internalv1.MessageRejected{
		NetworkMessageId: message.GetNetworkMessageId(), Reason: reason, Detail: valid(detail), Code: code,
	}}})
}

// reasonOf says why a message was not sent.
func reasonOf(err error) (internalv1.DeviceRejection, uint32) {
	var asked *whatsmeow.IQError
	switch {
	case errors.Is(err, errUnknownRecipient):
		return internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT, 0
	case errors.Is(err, content.ErrUnsupported):
		return internalv1.DeviceRejection_DEVICE_REJECTION_UNSUPPORTED, 0
	case errors.Is(err, content.ErrInvalid):
		return internalv1.DeviceRejection_DEVICE_REJECTION_CONTENT, 0
	case errors.Is(err, whatsmeow.ErrNotInGroup), errors.Is(err, whatsmeow.ErrGroupNotFound):
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_A_MEMBER, 0
	case errors.Is(err, whatsmeow.ErrServerReturnedError):
		return refusal(codeOf(err))
	case errors.As(err, &asked):
		return refusal(uint32(asked.Code))
	case errors.Is(err, context.Canceled), errors.Is(err, whatsmeow.ErrNotConnected), errors.Is(err, whatsmeow.ErrMessageTimedOut),
		errors.Is(err, whatsmeow.ErrIQTimedOut):
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, 0
	}
	var broken *whatsmeow.DisconnectedError
	if errors.As(err, &broken) {
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, 0
	}
	return internalv1.DeviceRejection_DEVICE_REJECTION_OTHER, 0
}

// refusal says what the network's numbers of failures mean.
func refusal(code uint32) (internalv1.DeviceRejection, uint32) {
	switch code {
	case 401, 403:
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_A_MEMBER, code
	case 404:
		return internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT, code
	case 405, 406, 479:
		return internalv1.DeviceRejection_DEVICE_REJECTION_CONTENT, code
	case 429, 421:
		return internalv1.DeviceRejection_DEVICE_REJECTION_RATE_LIMITED, code
	case 463, 475:
		return internalv1.DeviceRejection_DEVICE_REJECTION_RESTRICTED, code
	}
	return internalv1.DeviceRejection_DEVICE_REJECTION_OTHER, code
}

// codeOf is the number in the library's error of a message that the network refused: it has it only in the text.
func codeOf(err error) uint32 {
	var code uint32
	_, _ = fmt.Sscanf(err.Error(), whatsmeow.ErrServerReturnedError.Error()+" %d", &code)
	return code
}
