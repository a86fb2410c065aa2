package device

import (
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

const (
	// For so long members of a group who say the same of a message are gathered: a message to a thousand people is confirmed by all
	// of them at about the same time, by each in a stanza of their own or by many in one.
	gatherMembers = 50 * time.Millisecond
	// So many are told of at once.
	maxMembers = 1024
	// Of so many it is remembered that the node knows who they are.
	maxKnownMembers = 8192
)

// memberReceipts are those of one message that were not passed on yet.
type memberReceipts struct {
	mu       sync.Mutex
	gathered *internalv1.MessageReceipt
	since    map[string]bool // the members who are in it
	timer    *time.Timer
	known    map[string]string // what the node was told of who somebody is, by address
}

// onMemberReceipt passes on what a member says of messages, with what others say of the same within a moment.
func (d *Device) onMemberReceipt(said *events.Receipt, kind internalv1.DeviceReceipt) bool {
	later := d.members.add(d, said, kind)
	d.receipts.wait(d.ctx)
	return !later
}

func (m *memberReceipts) add(d *Device, said *events.Receipt, kind internalv1.DeviceReceipt) bool {
	ids := said.MessageIDs[:min(len(said.MessageIDs), maxReceiptIDs)]
	chat, member := d.addressOf(said.Chat, types.EmptyJID), d.addressOf(said.Sender, said.SenderAlt)
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.gathered; g != nil && (g.Receipt != kind || g.Chat != chat || !slices.Equal(g.NetworkMessageIds, ids)) {
		m.pass(d)
	}
	if m.gathered == nil {
		m.gathered = &internalv1.MessageReceipt{NetworkMessageIds: ids, Receipt: kind, Chat: chat}
		m.since = map[string]bool{}
		m.timer = time.AfterFunc(gatherMembers, func() { d.contain(func() { m.tell(d) }) })
	}
	sequence := d.receipts.number(said.Type, said.MessageIDs[0])
	if sequence != 0 {
		m.gathered.Sequence = sequence
	}
	if !m.since[member] {
		m.since[member] = true
		m.gathered.Members = append(m.gathered.Members, member)
		m.gathered.MemberTimes = append(m.gathered.MemberTimes, said.Timestamp.UnixMicro())
		m.introduce(member, d.identityOf(said.Sender, said.SenderAlt, ""))
	}
	if len(m.gathered.Members) >= maxMembers {
		m.pass(d)
	}
	return sequence != 0
}

// introduce says who a member is, unless the node was told.
func (m *memberReceipts) introduce(member string, identity *internalv1.DeviceIdentity) {
	if identity == nil {
		return
	}
	told := identity.String()
	if m.known[member] == told {
		return
	}
	if m.known == nil || len(m.known) >= maxKnownMembers {
		m.known = map[string]string{}
	}
	m.known[member] = told
	m.gathered.Known = append(m.gathered.Known, &internalv1.KnownMember{Member: member, Identity: identity})
}

// tell passes on what was gathered: before what comes after it, so that numbers rise.
func (m *memberReceipts) tell(d *Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pass(d)
}

func (m *memberReceipts) pass(d *Device) {
	if m.gathered == nil {
		return
	}
	m.timer.Stop()
	receipt := m.gathered
	m.gathered, m.since = nil, nil
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Receipt{Receipt: receipt}})
}
