package device

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
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
		reason, code := reasonOf(err, strings.HasPrefix(message.GetRecipient(), "group:"))
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
	// Posts need to know who sees them, and files of channels are stored otherwise: neither is served.
	if to.Server == types.NewsletterServer || to == types.StatusBroadcastJID {
		return none, content.ErrUnsupported
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
		if out.Message, err = d.client.BuildPollVote(d.ctx, &out.Vote.Poll, out.Vote.Answers); err != nil {
			return nil, fmt.Errorf("%w: %w", content.ErrInvalid, err)
		}
	}
	return out, nil
}

var errUnknownRecipient = errors.New("nobody has that number or address")

// memberOf returns how a group has its members; nil: by number, or it is no group.
func (d *Device) memberOf(chat types.JID) func(types.JID) types.JID {
	if chat.Server != types.GroupServer {
		return nil
	}
	group, err := d.client.DangerousInternals().GetCachedGroupData(d.ctx, chat)
	if err != nil || group == nil || group.AddressingMode != types.AddressingModeLID { // why it cannot be had, sending says
		return nil
	}
	return func(jid types.JID) types.JID {
		own, ownHidden := d.client.Store.GetJID(), d.client.Store.GetLID()
		if jid.User == own.User && !ownHidden.IsEmpty() {
			return ownHidden.ToNonAD()
		}
		if _, hidden := d.both(jid, types.EmptyJID); !hidden.IsEmpty() {
			return hidden
		}
		return jid
	}
}

// recipient is whom an address means. The network has some numbers under another one than people use, such as those of
// Brazil without their ninth digit: what is sent to the other one arrives nowhere.
func (d *Device) recipient(named string) (types.JID, error) {
	to, err := address.Parse(named)
	if err != nil || to.Server != types.DefaultUserServer {
		return to, err
	}
	hidden, err := d.store.GetLIDForPN(d.ctx, to)
	if err != nil || hidden.IsEmpty() {
		return to, err
	}
	number, err := d.store.GetPNForLID(d.ctx, hidden)
	if err != nil || number.IsEmpty() {
		return to, err
	}
	return number.ToNonAD(), nil
}

// lookUp asks the network who has a number that the account has not written to yet, and returns the number that the network
// has them under. The library would say of nobody's number only in words that it has no hidden id.
func (d *Device) lookUp(to types.JID) (types.JID, error) {
	if to.Server != types.DefaultUserServer {
		return to, nil
	}
	if hidden, err := d.store.GetLIDForPN(d.ctx, to); err != nil || !hidden.IsEmpty() {
		return to, err
	}
	answers, err := d.client.IsOnWhatsApp(d.ctx, spellings("+"+to.User))
	if err != nil || len(answers) == 0 {
		return to, err
	}
	for _, answer := range answers { // in the order of the questions
		if !answer.IsIn {
			continue
		}
		number := answer.PhoneNumber
		if number.IsEmpty() && answer.JID.Server == types.DefaultUserServer {
			number = answer.JID
		}
		if number.IsEmpty() || number.User == to.User {
			return to, nil
		}
		return number.ToNonAD(), d.store.KeepOtherNumber(d.ctx, to, answer.JID)
	}
	return to, errUnknownRecipient
}

// renumbered are countries that have changed how their mobile numbers are written, in both forms: Brazil with and without a
// ninth digit behind the two of the area, Mexico without and with a 1, Argentina with and without a 9.
var renumbered = []struct {
	digit         string
	with, without *regexp.Regexp
}{
	{"9", regexp.MustCompile(`^(\+55\d\d)9([6-9]\d{7})$`), regexp.MustCompile(`^(\+55\d\d)([6-9]\d{7})$`)},
	{"1", regexp.MustCompile(`^(\+52)1(\d{10})$`), regexp.MustCompile(`^(\+52)(\d{10})$`)},
	{"9", regexp.MustCompile(`^(\+54)9(\d{10})$`), regexp.MustCompile(`^(\+54)(\d{10})$`)},
}

// spellings are a number, and the other one that means the same telephone, where there is one. The network has who joined
// before under the number of then, and may not find them by that of now.
func spellings(phone string) []string {
	for _, change := range renumbered {
		if parts := change.with.FindStringSubmatch(phone); parts != nil {
			return []string{phone, parts[1] + parts[2]}
		}
		if parts := change.without.FindStringSubmatch(phone); parts != nil {
			return []string{phone, parts[1] + change.digit + parts[2]}
		}
	}
	return []string{phone}
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

// reasonOf says why a message was not sent, to a group or to a person.
func reasonOf(err error, group bool) (internalv1.DeviceRejection, uint32) {
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
		code := codeOf(err)
		if !group && (code == 401 || code == 403) { // in a chat of two nobody is missing: one has blocked the other
			return internalv1.DeviceRejection_DEVICE_REJECTION_BLOCKED, code
		}
		return refusal(code)
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
