package device

import (
	"context"
	"errors"
	"regexp"

	"go.mau.fi/whatsmeow/types"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

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

// phoneHas is a chat as the account's phone has it: those of two people by hidden ids, so far as these are known. What is told of
// such a chat under the number is about one that the phone does not show.
func (d *Device) phoneHas(chat types.JID) types.JID {
	if chat.Server != types.DefaultUserServer {
		return chat
	}
	if _, hidden := d.both(chat, types.EmptyJID); !hidden.IsEmpty() {
		return hidden
	}
	return chat
}

// writerIn is who wrote a message of a chat as the network named them there.
func (d *Device) writerIn(chat, writer types.JID) types.JID {
	if _, numbered := d.numbered.Load(chat); numbered || chat.Server == types.NewsletterServer {
		return writer
	}
	return d.phoneHas(writer)
}

// keyForMembers has what is about to be sent to a group encrypted with a key that nobody has who is not in it any more.
func (d *Device) keyForMembers(sending context.Context, chat types.JID) error {
	if chat.Server != types.GroupServer {
		return nil
	}
	group, err := d.client.DangerousInternals().GetCachedGroupData(d.ctx, chat)
	if err != nil || group == nil { // why it cannot be had, sending says
		return nil
	}
	return d.store.KeyFor(sending, chat, group.Members)
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
