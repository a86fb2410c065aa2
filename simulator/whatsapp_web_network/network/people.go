package network

import (
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/content"
	"sessionmesh.dev/whatsapp-web-network/ledger"
	"sessionmesh.dev/whatsapp-web-network/phone"
)

var (
	// ErrNotPaired says that an account has no device that could get a message.
	ErrNotPaired = errors.New("the account is not paired")
	// ErrNobody says that nobody has an address.
	ErrNobody = errors.New("nobody on the network has this address")
)

// ofMany says whether each of a message's recipients is named as a member: of a group, or of who sees a status post.
func ofMany(to types.JID) bool {
	return to.Server == types.GroupServer || to.Server == types.BroadcastServer
}

// readBy is what a person does who has read an account's message.
func (n *Network) readBy(m *sent, r reading) {
	account, member := m.client.account, ""
	delete(n.unread, unreadKey(account, m.id, r.person))
	if r.person == account {
		// Its own phone, which confirms nothing; that it can read the message after all is known here only.
		n.Ledger.Append(ledger.Record{
			Kind: simulatorv1.LedgerKind_LEDGER_KIND_RECEIPT, Account: account.Digits, ID: m.id, Peer: account.Phone,
			Code: uint32(simnetv1.ReceiptKind_RECEIPT_KIND_DELIVERED),
		})
		return
	}
	if ofMany(m.to) {
		member = r.person.Phone
	}
	behaviour := n.behaviour(account)
	id, to := m.id, m.to
	if n.people[r.person.Digits].device != nil {
		// Somebody with a linked device: that one says when it has the message.
		return
	}
	after(behaviour.DeliveredAfter, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.confirm(account, r.person, to, id, member, simnetv1.ReceiptKind_RECEIPT_KIND_DELIVERED)
		wait := time.Duration(0)
		if behaviour.ReadAfter != nil {
			wait = *behaviour.ReadAfter
			after(wait, func() { n.readNow(account, r, to, id, member) })
		}
		if behaviour.AutoReply != "" && member == "" && content.Answerable(r.message) {
			after(wait, func() { n.answer(account, r.person, behaviour.AutoReply) })
		}
	})
}

func (n *Network) readNow(account *Account, r reading, to types.JID, id, member string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.confirm(account, r.person, to, id, member, simnetv1.ReceiptKind_RECEIPT_KIND_READ)
	if content.Played(r.message) {
		n.confirm(account, r.person, to, id, member, simnetv1.ReceiptKind_RECEIPT_KIND_PLAYED)
	}
}

// confirm gives an account a person's receipt for a message.
func (n *Network) confirm(
	account, person *Account, to types.JID, id, member string, kind simnetv1.ReceiptKind,
) {
	account.receipts++
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_RECEIPT, Account: account.Digits, Counter: account.receipts,
		Code: uint32(kind), ID: id, Peer: member,
	})
	attrs := Attrs{"id": id, "t": now(), "from": person.lid()}
	if member != "" {
		attrs["from"], attrs["participant"] = to, person.lid()
	}
	if !n.settings.Hidden[person.Digits] {
		if member != "" {
			attrs["participant_pn"] = person.jid()
		} else {
			attrs["sender_pn"] = person.jid()
		}
	}
	named := ""
	switch kind {
	case simnetv1.ReceiptKind_RECEIPT_KIND_READ:
		named = "read"
	case simnetv1.ReceiptKind_RECEIPT_KIND_PLAYED:
		named = "played"
	}
	if named != "" {
		attrs["type"] = named
	}
	n.deliver(account, &pending{
		key: receiptKey(named, id, person.HiddenID), node: &Node{Tag: "receipt", Attrs: attrs},
	})
}

func unreadKey(account *Account, id string, person *Account) string {
	return account.Digits + "|" + id + "|" + person.Digits
}

func receiptKey(kind, id, person string) string { return "receipt|" + kind + "|" + id + "|" + person }

// unreadable notes that a person could not decrypt an account's message, and asks for it again with keys for a new session.
func (n *Network) unreadable(m *sent, person *Account) {
	account, member := m.client.account, ""
	if ofMany(m.to) || person == account {
		member = person.Phone
	}
	n.unread[unreadKey(account, m.id, person)] = true
	n.Ledger.Append(ledger.Record{
		Kind:       simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE,
		Connection: m.client.number, Account: account.Digits, ID: m.id, Peer: member,
	})
	attrs := Attrs{"id": m.id, "t": now(), "type": "retry", "from": person.lid()}
	if ofMany(m.to) {
		attrs["from"], attrs["participant"] = m.to, person.lid()
	} else if person == account {
		attrs["recipient"] = m.to
	}
	bundle := n.phoneOf(person).Bundle()
	n.deliver(account, &pending{
		key: receiptKey("retry", m.id, person.HiddenID),
		node: &Node{Tag: "receipt", Attrs: attrs, Content: []Node{
			{Tag: "retry", Attrs: Attrs{"count": "1", "id": m.id, "t": now(), "v": "1"}},
			bundle[0],
			{Tag: "keys", Content: bundle[1:]},
		}},
	})
}

// answer is a person who shows that they write, and then writes.
func (n *Network) answer(account, person *Account, words string) {
	n.mu.Lock()
	if account.Connected() {
		attrs := Attrs{"from": person.lid()}
		if !n.settings.Hidden[person.Digits] {
			attrs["sender_pn"] = person.jid()
		}
		account.device.client.send(&Node{Tag: "chatstate", Attrs: attrs, Content: []Node{{Tag: "composing"}}})
	}
	n.mu.Unlock()
	_ = n.write(account, person, types.EmptyJID, "", &waE2E.Message{Conversation: &words}, "")
}

// Writing is what somebody is made to write to an account.
type Writing struct {
	Account   *Account
	Sender    string // an address; empty: the account's own phone writes
	Chat      string // an address; empty: the sender's
	PushName  string
	MessageID string // empty: one is made
	Content   *simnetv1.Content
}

// Say has somebody write, and returns the message's id.
func (n *Network) Say(w Writing) (string, error) {
	n.mu.Lock()
	author := w.Account
	if w.Sender != "" {
		author = n.personAt(w.Sender)
	}
	chat := types.EmptyJID
	if w.Chat != "" {
		chat = n.jidAt(w.Chat)
	}
	paired := w.Account.device != nil
	known := chat.IsEmpty() || chat.Server == types.GroupServer && n.groups[chat.User] != nil || n.find(chat) != nil
	n.mu.Unlock()
	switch {
	case author == nil || !known:
		return "", ErrNobody
	case !paired:
		return "", ErrNotPaired
	}
	if w.MessageID == "" {
		w.MessageID = "3A" + rand.Text()[:18]
	}
	if w.Content.GetOther().GetKind() == content.Call {
		return w.MessageID, n.call(w.Account, author, w.MessageID, string(w.Content.GetOther().GetBody()) == "video")
	}
	around := n.surroundings(w.Account, author, chat)
	around.File = func(ref, kind string) (content.Sealed, string) { return n.media.share(w.MessageID, ref, kind) }
	message, err := content.Message(w.Content, around)
	if err != nil {
		return "", err
	}
	return w.MessageID, n.write(w.Account, author, chat, w.MessageID, message, w.PushName)
}

func (n *Network) surroundings(account, author *Account, chat types.JID) content.Surroundings {
	conversation := author.lid()
	if !chat.IsEmpty() {
		conversation = chat
	}
	return content.Surroundings{
		Chat: conversation.String(), Sender: author.lid().String(),
		Address: func(address string) string {
			n.mu.Lock()
			defer n.mu.Unlock()
			if person := n.personAt(address); person != nil {
				return person.lid().String()
			}
			return n.jidAt(address).String()
		},
	}
}

// write encrypts a message on its author's phone for the account's device and brings it there.
func (n *Network) write(
	account, author *Account, chat types.JID, id string, message *waE2E.Message, pushName string,
) error {
	if id == "" {
		id = "3A" + rand.Text()[:18]
	}
	if pushName == "" {
		pushName = author.PushName
	}
	if author == account {
		message = &waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{
			DestinationJID: proto.String(chat.String()), Message: message,
		}}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if account.device == nil {
		return ErrNotPaired
	}
	if !ofMany(chat) && account.hasBlocked(author) {
		return nil
	}
	seal := func(count int) *Node { return n.sealed(account, author, chat, id, message, pushName, count) }
	node := seal(0)
	if node == nil {
		return ErrNotPaired
	}
	n.keepFor(account, &pending{
		key: "message|" + id, messageID: id, node: node, again: seal,
	}, n.addressOf(author.lid()))
	return nil
}

// sealed is a message from a phone for a device; count tells how often the device has asked for it again.
func (n *Network) sealed(
	account, author *Account, chat types.JID, id string, message *waE2E.Message, pushName string, count int,
) *Node {
	kind, media := content.Type(message)
	attrs := Attrs{"id": id, "t": now(), "type": kind, "notify": pushName}
	to := chat
	if to.IsEmpty() {
		to = author.lid()
	}
	n.addressFrom(attrs, author, author.lid(), account, to)
	if message.GetEditedMessage() != nil {
		attrs["edit"] = "1"
	} else if message.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_REVOKE &&
		message.GetProtocolMessage().GetKey() != nil {
		attrs["edit"] = "7"
	}
	ends := n.phoneOf(author)
	var encs []Node
	if chat.Server == types.GroupServer && author != account {
		plain, _ := proto.Marshal(message)
		groupwide, key, err := ends.EncryptForGroup(chat.String(), author.lid(), plain)
		if err != nil {
			return nil
		}
		message = &waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{
			GroupID: proto.String(chat.String()), AxolotlSenderKeyDistributionMessage: key,
		}}
		encs = append(encs, encNode("skmsg", media, groupwide, 0))
	}
	plain, _ := proto.Marshal(message)
	envelope, sealed, err := ends.Encrypt(account.device.lid, plain)
	if errors.Is(err, phone.ErrNoSession) {
		if err = n.meet(ends, account); err == nil {
			envelope, sealed, err = ends.Encrypt(account.device.lid, plain)
		}
	}
	if err != nil {
		return nil
	}
	if len(encs) > 0 {
		media = ""
	}
	return &Node{Tag: "message", Attrs: attrs, Content: append([]Node{encNode(envelope, media, sealed, count)}, encs...)}
}

// meet begins a session with an account's device, with the keys that it gave the network for that.
func (n *Network) meet(ends *phone.Phone, account *Account) error {
	return ends.Meet(account.device.lid, Node{Tag: "user", Content: n.keysFor(account.device.lid)})
}

func encNode(kind, media string, sealed []byte, count int) Node {
	attrs := Attrs{"v": "2", "type": kind}
	if media != "" {
		attrs["mediatype"] = media
	}
	if count > 0 {
		attrs["count"] = strconv.Itoa(count)
	}
	return Node{Tag: "enc", Attrs: attrs, Content: sealed}
}

// call offers an account a call, which nobody takes.
func (n *Network) call(account, author *Account, id string, video bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	medium := Node{Tag: "audio", Attrs: Attrs{"enc": "opus", "rate": "16000"}}
	offer := Node{
		Tag: "offer", Attrs: Attrs{"call-id": id, "call-creator": author.lid(), "caller_pn": author.jid()},
		Content: []Node{medium},
	}
	if video {
		offer.Content = []Node{medium, {Tag: "video", Attrs: Attrs{"enc": "vp8"}}}
	}
	n.deliver(account, &pending{key: "call|" + id, node: &Node{Tag: "call", Attrs: Attrs{
		"from": author.lid(), "id": id, "t": now(), "platform": "android", "version": "2.26.1", "notify": author.PushName,
	}, Content: []Node{offer}}})
	return nil
}

func after(wait time.Duration, do func()) {
	if wait <= 0 {
		go do()
		return
	}
	time.AfterFunc(wait, do)
}
