package network

import (
	"slices"
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

// takenBackByAdmin is how a stanza says that somebody else's message is taken back.
const takenBackByAdmin = "8"

// sent is a message of an account on its way.
type sent struct {
	client *client
	node   *Node
	id     string
	to     types.JID
	group  *Group
	// again: the account sends what a device asked for because it could not read it.
	again bool
	// copies is what is for one device each, groupwide what every member is to decrypt with the sender's key.
	copies    []Node
	groupwide *Node
	identity  *Node
	plain     *waE2E.Message
	// Of a post in a channel: its number there.
	serverID int
	readers  []reading
}

// reading is how the phone of a person fared with a message.
type reading struct {
	person  *Account
	message *waE2E.Message // nil: it could not be decrypted
}

// accept takes a message of a client, or refuses it, and passes it on.
func (n *Network) accept(c *client, node *Node) {
	m := readSent(c, node)
	if m.to.Server == types.NewsletterServer {
		n.acceptPost(c, m)
		return
	}
	if node.Attrs["category"] == "peer" {
		n.acknowledge(m, "")
		n.readAll(m) // for its own phone: nobody else hears of it
		if asked := m.plain.GetProtocolMessage().GetPeerDataOperationRequestMessage(); asked != nil {
			n.answerDevice(c.account, m.id, asked)
		}
		return
	}
	if m.again {
		n.acknowledge(m, "")
		n.pass(m)
		return
	}
	n.mu.Lock()
	c.account.Counter++
	refusal := n.refuse(m)
	known := refusal == nil && !c.account.remember(m.id)
	n.mu.Unlock()
	switch {
	case refusal != nil:
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_REJECTED, uint32(refusal.Reason), nil)
		n.acknowledge(m, strconv.Itoa(int(codeOf(*refusal))))
	case known:
		// Devices are not shown it again, but whoever reads it can say whether it was encrypted as it should be.
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_RESENT, 0, nil)
		n.acknowledge(m, "")
		n.readAll(m)
		n.mu.Lock()
		n.complain(m)
		n.readAtLast(m)
		n.mu.Unlock()
	default:
		n.readAll(m)
		digest := content.DigestOf([]byte(m.id)) // nobody here can read it
		if m.plain != nil {
			digest = content.Digest(m.plain)
		}
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_ACCEPTED, 0, digest)
		n.recordChange(m)
		n.acknowledge(m, "")
		n.passOn(m)
	}
}

func readSent(c *client, node *Node) *sent {
	m := &sent{client: c, node: node}
	m.to, _ = node.Attrs["to"].(types.JID)
	m.id, _ = node.Attrs["id"].(string)
	for _, child := range node.GetChildren() {
		switch child.Tag {
		case "participants":
			m.copies = append(m.copies, child.GetChildren()...)
		case "device-identity":
			m.identity = &child
		case "enc":
			if _, again := child.Attrs["count"]; again {
				m.again = true
			}
			target := m.to
			if participant, ok := node.Attrs["participant"].(types.JID); ok {
				target, m.again = participant, true
			}
			if child.Attrs["type"] == "skmsg" {
				m.groupwide = &child
			} else {
				m.copies = append(m.copies, Node{Tag: "to", Attrs: Attrs{"jid": target}, Content: []Node{child}})
			}
		}
	}
	return m
}

// refuse tells why the network does not take a message; nil: it does.
func (n *Network) refuse(m *sent) *Refusal {
	account := m.client.account
	var recipient *Account
	switch {
	case m.id == "" || len(m.id) > 64:
		return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_MALFORMED}
	case m.to.Server == types.GroupServer:
		m.group = n.groups[m.to.User]
		if m.group == nil {
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_UNKNOWN_RECIPIENT}
		}
		if !m.group.has(account.Digits) {
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_NOT_A_MEMBER}
		}
		if m.group.parent { // nobody writes to a community itself
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_MALFORMED, Code: 420}
		}
		if m.group.announce && !m.group.Admins[account.Digits] {
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_NOT_A_MEMBER, Code: 403}
		}
		if text(m.node.Attrs["edit"]) == takenBackByAdmin && !m.group.Admins[account.Digits] {
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_NOT_A_MEMBER, Code: 403}
		}
	case m.to == types.StatusBroadcastJID:
	default:
		if recipient = n.find(m.to); recipient == nil {
			return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_UNKNOWN_RECIPIENT}
		}
	}
	behaviour := n.behaviour(account)
	for _, refusal := range behaviour.Refusals {
		if refusal.Recipient == "" || refusal.Recipient == n.addressOf(m.to) ||
			recipient != nil && n.person(recipient.Digits) == n.personAt(refusal.Recipient) {
			return &refusal
		}
	}
	if limit := behaviour.MessagesPerMinute; limit > 0 && account.wait(limit, time.Now()) > 0 {
		return &Refusal{Reason: simnetv1.RejectReason_REJECT_REASON_RATE_LIMITED}
	}
	return nil
}

func (n *Network) record(m *sent, kind simulatorv1.LedgerKind, code uint32, digest []byte) {
	n.Ledger.Append(ledger.Record{
		Kind: kind, Connection: m.client.number, Account: m.client.account.Digits,
		Counter: uint64(m.client.account.Counter), Code: code, Digest: digest, ID: m.id, Peer: n.addressOf(m.to),
	})
}

// recordChange notes that a message changes an earlier one, with the number that docs/simulator.md gives the change.
func (n *Network) recordChange(m *sent) {
	changed, code := content.Changes(m.plain)
	if changed != "" {
		n.Ledger.Append(ledger.Record{
			Kind: simulatorv1.LedgerKind_LEDGER_KIND_MESSAGE_CHANGED, Account: m.client.account.Digits,
			Code: code, ID: m.id, Peer: changed,
		})
	}
}

// acknowledge tells the client that the network has the message, or with a code that it does not take it.
func (n *Network) acknowledge(m *sent, refused string) {
	attrs := Attrs{"class": "message", "id": m.id, "from": m.to, "t": now()}
	if refused != "" {
		attrs["error"] = refused
	}
	if m.serverID != 0 {
		attrs["server_id"] = strconv.Itoa(m.serverID)
	}
	c, id := m.client, m.id
	out := outgoing{node: &Node{Tag: "ack", Attrs: attrs}}
	if refused != "" || m.again {
		c.enqueue(out)
		return
	}
	e := c.effects()
	if e.loseAcks {
		return
	}
	out.written = func() {
		n.Ledger.Append(ledger.Record{
			Kind:       simulatorv1.LedgerKind_LEDGER_KIND_ACKED,
			Connection: c.number, Account: c.account.Digits, ID: id,
		})
	}
	if e.ackDelay > 0 {
		time.AfterFunc(e.ackDelay, func() { c.enqueue(out) })
		return
	}
	c.enqueue(out)
}

// readAll has the phones among the recipients decrypt the message: the copies first, which bring the sender's key.
func (n *Network) readAll(m *sent) {
	author := m.client.device.lid
	chat := m.to.String()
	read := map[*Account]bool{}
	for _, copied := range m.copies {
		jid, _ := copied.Attrs["jid"].(types.JID)
		if jid.Device != 0 {
			continue
		}
		person, ends := n.phoneAt(jid)
		if person == nil {
			continue
		}
		read[person] = true
		for _, enc := range copied.GetChildren() {
			sealed, _ := enc.Content.([]byte)
			message := decrypted(ends.Decrypt(author, text(enc.Attrs["type"]), sealed))
			if key := message.GetSenderKeyDistributionMessage(); key != nil {
				_ = ends.LearnSenderKey(key.GetGroupID(), author, key.GetAxolotlSenderKeyDistributionMessage())
			}
			if m.groupwide == nil || message == nil {
				m.readers = append(m.readers, reading{person, message})
			}
		}
	}
	if m.groupwide == nil {
		m.notePlain()
		return
	}
	sealed, _ := m.groupwide.Content.([]byte)
	for _, member := range n.membersOf(m, read) {
		person, ends := n.phoneAt(member)
		m.readers = append(m.readers, reading{person, decrypted(ends.DecryptFromGroup(chat, author, sealed))})
	}
	n.tryAsFormer(m, sealed)
	m.notePlain()
}

// tryAsFormer has those who were members of a group try to read what is said there now: a network that is broken into would
// let them. Who is no member any more must not have the sender's key.
func (n *Network) tryAsFormer(m *sent, sealed []byte) {
	n.mu.Lock()
	var former []*Account
	if group := n.groups[m.to.User]; group != nil {
		for number := range group.former {
			former = append(former, n.person(number))
		}
	}
	n.mu.Unlock()
	for _, person := range former {
		_, ends := n.phoneAt(person.lid())
		if ends == nil {
			continue
		}
		if _, err := ends.DecryptFromGroup(m.to.String(), m.client.device.lid, sealed); err == nil {
			n.Ledger.Append(ledger.Record{
				Kind: simulatorv1.LedgerKind_LEDGER_KIND_READ_BY_FORMER_MEMBER, Connection: m.client.number,
				Account: m.client.account.Digits, ID: m.id, Peer: person.Phone,
			})
		}
	}
}

func (m *sent) notePlain() {
	for _, r := range m.readers {
		if r.message != nil {
			m.plain = r.message
			return
		}
	}
}

// membersOf is whose phones are to read what is for a whole group: its members, elsewhere whoever got the key.
func (n *Network) membersOf(m *sent, keyed map[*Account]bool) []types.JID {
	n.mu.Lock()
	defer n.mu.Unlock()
	var members []types.JID
	if group := n.groups[m.to.User]; group != nil {
		for _, member := range group.Members {
			members = append(members, n.person(member).lid())
		}
		return members
	}
	for person := range keyed {
		members = append(members, person.lid())
	}
	return members
}

func (n *Network) phoneAt(jid types.JID) (*Account, *phone.Phone) {
	n.mu.Lock()
	defer n.mu.Unlock()
	person := n.find(jid)
	if person == nil {
		return nil, nil
	}
	return person, n.phoneOf(person)
}

func decrypted(plain []byte, err error) *waE2E.Message {
	var message waE2E.Message
	if err != nil || proto.Unmarshal(plain, &message) != nil {
		return nil
	}
	return &message
}

// passOn brings a new message to everybody whom it is for.
func (n *Network) passOn(m *sent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relay(m)
	n.complain(m)
	for _, r := range m.readers {
		if r.message != nil && r.person != m.client.account {
			n.readBy(m, r)
		}
	}
	n.readAtLast(m)
}

// readAtLast is of those who could not read the message before.
func (n *Network) readAtLast(m *sent) {
	for _, r := range m.readers {
		if r.message != nil && n.unread[unreadKey(m.client.account, m.id, r.person)] {
			n.readBy(m, r)
		}
	}
}

// pass brings what a device asked for again to that device.
func (n *Network) pass(m *sent) {
	n.readAll(m)
	n.passOn(m)
}

// complain notes what could not be decrypted, and has it asked for again.
func (n *Network) complain(m *sent) {
	for _, r := range m.readers {
		if r.message == nil {
			n.unreadable(m, r.person)
		}
	}
}

// relay brings the message to linked devices, which read it themselves.
func (n *Network) relay(m *sent) {
	reached := map[*device]bool{m.client.device: true}
	for _, copied := range m.copies {
		jid, _ := copied.Attrs["jid"].(types.JID)
		account := n.find(jid)
		if account == nil || jid.Device == 0 || account.device == nil || account.device.jid.Device != jid.Device {
			continue
		}
		reached[account.device] = true
		children := slices.Clone(copied.GetChildren())
		if m.identity != nil {
			children = append(children, *m.identity)
		}
		if m.groupwide != nil {
			children = append(children, *m.groupwide)
		}
		n.bring(m, account, children)
	}
	if m.groupwide == nil || m.group == nil || m.again {
		return
	}
	for _, member := range m.group.Members {
		if account := n.person(member); account.device != nil && !reached[account.device] {
			n.bring(m, account, []Node{*m.groupwide})
		}
	}
}

func (n *Network) bring(m *sent, account *Account, children []Node) {
	author := m.client.account
	if !ofMany(m.to) && account.hasBlocked(author) {
		return
	}
	attrs := Attrs{"id": m.id, "t": now(), "type": m.node.Attrs["type"], "notify": author.PushName}
	if edit, ok := m.node.Attrs["edit"]; ok {
		attrs["edit"] = edit
	}
	n.addressFrom(attrs, author, m.client.device.lid, account, m.to)
	n.keepFor(account, &pending{
		key: "message|" + m.id, messageID: m.id, from: author,
		node: &Node{Tag: "message", Attrs: attrs, Content: children},
	}, n.addressOf(author.jid()))
}

// addressFrom names the sender and the conversation of a message as its recipient is told.
func (n *Network) addressFrom(attrs Attrs, author *Account, from types.JID, account *Account, to types.JID) {
	own := author.jid()
	own.Device = from.Device
	hidden := n.settings.Hidden[author.Digits] && author != account
	if to.Server == types.GroupServer || to.Server == types.BroadcastServer {
		attrs["from"], attrs["participant"], attrs["addressing_mode"] = to, from, "lid"
		if !hidden {
			attrs["participant_pn"] = own
		}
		return
	}
	attrs["from"] = from
	if author == account {
		attrs["recipient"] = to
		if other := n.find(to); other != nil && to.Server == types.HiddenUserServer {
			attrs["peer_recipient_pn"] = other.jid()
		} else if other != nil {
			attrs["peer_recipient_lid"] = other.lid()
		}
		return
	}
	attrs["addressing_mode"] = "lid"
	if !hidden {
		attrs["sender_pn"] = author.jid()
	}
}

// keepFor notes a message for an account and brings it to its device.
func (n *Network) keepFor(account *Account, item *pending, sender string) {
	if account.device == nil {
		return
	}
	account.inbound++
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_INBOUND, Account: account.Digits, Counter: account.inbound,
		ID: item.messageID, Peer: sender,
	})
	n.deliver(account, item)
}
