package device

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
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
			go d.contain(d.sendAll)
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
	steps := stepsOf(message)
	sent, err := d.send(message, steps)
	if err != nil {
		reason, code := d.reasonOf(err, message)
		if d.ctx.Err() != nil || !d.client.IsConnected() { // whatever it says, nobody has refused the message
			reason, code = internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, 0
		}
		d.reject(message, reason, err.Error(), code, steps.all()...)
		return
	}
	acked := &internalv1.MessageAcked{
		NetworkMessageId: message.GetNetworkMessageId(), Time: timestamppb.New(sent.Timestamp), Steps: steps.all(),
	}
	if address.IsPerson(sent.Chat) {
		acked.Recipient = d.identityOf(sent.Chat, types.EmptyJID, "")
	}
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Acked{Acked: acked}})
}

func (d *Device) send(message *internalv1.SendDeviceMessage, steps *sendSteps) (whatsmeow.SendResponse, error) {
	var none whatsmeow.SendResponse
	to, err := d.recipient(message.GetRecipient())
	if errors.Is(err, address.ErrUnknown) {
		return none, errUnknownRecipient
	}
	if err != nil {
		return none, err
	}
	if to.Server == types.NewsletterServer {
		return d.post(message, to, steps)
	}
	if to, err = d.lookUp(to); err != nil {
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
	if out.File != nil {
		if err := d.store.KeepFile(sending, id, out.File); err != nil {
			return none, err
		}
	}
	if to == types.StatusBroadcastJID {
		if sending, err = d.toAudience(sending, out.Audience); err != nil {
			return none, err
		}
	}
	if err := d.keyForMembers(sending, to); err != nil {
		return none, err
	}
	extra := whatsmeow.SendRequestExtra{ID: id, Timeout: sendTimeout}
	if out.Beside != nil {
		beside := append([]waBinary.Node(nil), out.Beside...)
		extra.AdditionalNodes = &beside
	}
	began := time.Now()
	sent, err := d.client.SendMessage(sending, to, out.Message, extra)
	steps.sent(began, sent.DebugTimings)
	return sent, err
}

// toAudience has a status post go to the people named. Where the account's settings name others the library would send
// it to those.
func (d *Device) toAudience(sending context.Context, named []string) (context.Context, error) {
	var people []types.JID
	for _, one := range named {
		jid, err := d.recipient(one)
		if errors.Is(err, address.ErrUnknown) {
			return nil, fmt.Errorf("%w: %s cannot see it", content.ErrInvalid, one)
		}
		if err != nil {
			return nil, err
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

// written is a message in the network's form, from a serialised DeviceMessage. Where it says of a file only what that is,
// the message was sent before, and where the file is was kept then.
func (d *Device) written(id string, to types.JID, message []byte) (*content.Outgoing, error) {
	var said internalv1.DeviceMessage
	if err := proto.Unmarshal(message, &said); err != nil {
		return nil, fmt.Errorf("%w: %w", content.ErrInvalid, err)
	}
	if said.GetMedia() != nil && said.GetFile() == nil {
		file, err := d.store.File(d.ctx, id)
		if err != nil {
			return nil, err
		}
		if file == nil {
			return nil, errNotKept
		}
		said.File = file
	}
	timer, err := d.store.Timer(d.ctx, to)
	if err != nil {
		return nil, err
	}
	writer := content.Writer{
		Own: d.client.Store.GetJID(), OwnHidden: d.client.Store.GetLID(), Chat: to, Secret: d.secretOf(id), Timer: timer, Member: d.memberOf(to),
	}
	out, err := writer.Write(&said)
	if err != nil {
		return nil, err
	}
	if out.Vote != nil {
		voting := d.ctx
		if out.Vote.Poll.IsFromMe {
			voting = rows.WithSecret(voting, d.secretOf(out.Vote.Poll.ID))
		}
		if out.Message, err = d.client.BuildPollVote(voting, &out.Vote.Poll, out.Vote.Answers); err != nil {
			return nil, fmt.Errorf("%w: %w", content.ErrInvalid, err)
		}
	}
	return out, nil
}

// secretOf is a secret of the device and a message, the same on every attempt to send it: votes are encrypted with the
// one that arrived.
func (d *Device) secretOf(id string) []byte {
	mac := hmac.New(sha256.New, d.client.Store.IdentityKey.Priv[:])
	mac.Write([]byte("sessionmesh message secret\x00" + id))
	return mac.Sum(nil)
}

func (d *Device) reject(
	message *internalv1.SendDeviceMessage, reason internalv1.DeviceRejection, detail string, code uint32, steps ...*internalv1.DeviceStep,
) {
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Rejected{Rejected: &internalv1.MessageRejected{
		NetworkMessageId: message.GetNetworkMessageId(), Reason: reason, Detail: valid(detail), Code: code, Steps: steps,
	}}})
}

// reasonOf says why a message was not sent.
func (d *Device) reasonOf(err error, message *internalv1.SendDeviceMessage) (internalv1.DeviceRejection, uint32) {
	var asked *whatsmeow.IQError
	switch {
	case errors.Is(err, errUnknownRecipient), errors.Is(err, errUnknownPost):
		return internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT, 0
	case errors.Is(err, content.ErrUnsupported):
		return internalv1.DeviceRejection_DEVICE_REJECTION_UNSUPPORTED, 0
	case errors.Is(err, content.ErrInvalid):
		return internalv1.DeviceRejection_DEVICE_REJECTION_CONTENT, 0
	case errors.Is(err, whatsmeow.ErrNotInGroup), errors.Is(err, whatsmeow.ErrGroupNotFound):
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_A_MEMBER, 0
	case errors.Is(err, whatsmeow.ErrServerReturnedError):
		code := d.nacks.of(message.GetNetworkMessageId())
		inGroup := strings.HasPrefix(message.GetRecipient(), "group:") || strings.HasPrefix(message.GetRecipient(), "channel:")
		if !inGroup && (code == 401 || code == 403) { // in a chat of two nobody is missing: one has blocked the other
			return internalv1.DeviceRejection_DEVICE_REJECTION_BLOCKED, code
		}
		return refusal(code)
	case errors.As(err, &asked) && asked.Code >= 500: // of a question before the message: the network has not seen that
		return internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT, 0
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
