package network

import (
	"crypto/rand"
	"time"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
	"sessionmesh.dev/whatsapp-web-network/noise"
)

// Fault is what goes wrong, and for how long. Account nil: for all.
type Fault struct {
	ID             string
	Kind           simulatorv1.FaultKind
	Account        *Account
	Delay          time.Duration
	BytesPerSecond uint64
	// What a client is handed; see noise.Conn.WriteSealed.
	Stanza []byte
}

// effects is what the faults of the moment do to an account.
type effects struct {
	refuseLogins, expired, loseAcks, dropInboundAcks, stalled bool
	forged, repeatKeys, endlessHistory                        bool
	halfAnswers, doubleAnswers, brokenAppState                bool
	ackDelay, latency, answerDelay                            time.Duration
	bytesPerSecond                                            uint64
}

var noEffects = &effects{}

// Inject begins a fault; for lasts until it is cleared when it is 0.
func (n *Network) Inject(fault *Fault, lasts time.Duration) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	fault.ID = rand.Text()[:12]
	record := ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_FAULT, Code: uint32(fault.Kind), ID: fault.ID,
		Peer: fault.Kind.String(),
	}
	if fault.Account != nil {
		record.Account = fault.Account.Digits
	}
	n.Ledger.Append(record)
	if strike := instant(fault); strike != nil {
		for _, account := range n.concerned(fault.Account) {
			strike(n, account)
		}
		return fault.ID
	}
	n.faults = append(n.faults, fault)
	n.applyFaults()
	if lasts > 0 {
		time.AfterFunc(lasts, func() { n.Clear(fault.ID) })
	}
	if fault.Kind == simulatorv1.FaultKind_FAULT_KIND_ENDLESS_HISTORY {
		go n.bury(fault)
	}
	return fault.ID
}

// Clear ends a fault; false: it has ended before.
func (n *Network) Clear(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, fault := range n.faults {
		if fault.ID == id {
			n.faults = append(n.faults[:i:i], n.faults[i+1:]...)
			n.applyFaults()
			return true
		}
	}
	return false
}

// ClearAll ends the faults and the ban of an account, or with nil everybody's; it returns how many there were.
func (n *Network) ClearAll(account *Account) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	cleared := 0
	for _, each := range n.concerned(account) {
		if each.Banned {
			each.Banned = false
			cleared++
		}
	}
	var left []*Fault
	for _, fault := range n.faults {
		if account == nil || fault.Account == account {
			cleared++
		} else {
			left = append(left, fault)
		}
	}
	n.faults = left
	n.applyFaults()
	return cleared
}

func (n *Network) concerned(account *Account) []*Account {
	if account != nil {
		return []*Account{account}
	}
	return n.accounts
}

func (n *Network) applyFaults() {
	n.general.Store(n.effectsOn(nil))
	for _, account := range n.accounts {
		account.effects.Store(n.effectsOn(account))
	}
}

func (n *Network) effectsOn(account *Account) *effects {
	e := &effects{}
	for _, fault := range n.faults {
		if fault.Account != nil && fault.Account != account {
			continue
		}
		switch fault.Kind {
		case simulatorv1.FaultKind_FAULT_KIND_REFUSE_LOGINS:
			e.refuseLogins = true
		case simulatorv1.FaultKind_FAULT_KIND_EXPIRE_CLIENTS:
			e.expired = true
		case simulatorv1.FaultKind_FAULT_KIND_DELAY_ACKS:
			e.ackDelay = max(e.ackDelay, fault.Delay)
		case simulatorv1.FaultKind_FAULT_KIND_LOSE_ACKS:
			e.loseAcks = true
		case simulatorv1.FaultKind_FAULT_KIND_STALL:
			e.stalled = true
		case simulatorv1.FaultKind_FAULT_KIND_SLOW:
			e.latency = max(e.latency, fault.Delay)
		case simulatorv1.FaultKind_FAULT_KIND_DROP_INBOUND_ACKS:
			e.dropInboundAcks = true
		case simulatorv1.FaultKind_FAULT_KIND_BANDWIDTH:
			if e.bytesPerSecond == 0 || fault.BytesPerSecond < e.bytesPerSecond {
				e.bytesPerSecond = fault.BytesPerSecond
			}
		case simulatorv1.FaultKind_FAULT_KIND_WRONG_SIGNATURES:
			e.forged = true
		case simulatorv1.FaultKind_FAULT_KIND_REPEAT_PREKEYS:
			e.repeatKeys = true
		case simulatorv1.FaultKind_FAULT_KIND_ENDLESS_HISTORY:
			e.endlessHistory = true
		case simulatorv1.FaultKind_FAULT_KIND_LATE_ANSWERS:
			e.answerDelay = max(e.answerDelay, fault.Delay)
		case simulatorv1.FaultKind_FAULT_KIND_HALF_ANSWERS:
			e.halfAnswers = true
		case simulatorv1.FaultKind_FAULT_KIND_DOUBLE_ANSWERS:
			e.doubleAnswers = true
		case simulatorv1.FaultKind_FAULT_KIND_BROKEN_APP_STATE:
			e.brokenAppState = true
		}
	}
	return e
}

// instant is what a fault does that is over as soon as it has happened; nil: the fault lasts.
func instant(fault *Fault) func(*Network, *Account) {
	switch fault.Kind {
	case simulatorv1.FaultKind_FAULT_KIND_DROP_CONNECTION:
		return func(_ *Network, a *Account) {
			if a.Connected() {
				a.device.client.conn.Close()
			}
		}
	case simulatorv1.FaultKind_FAULT_KIND_BAN:
		return (*Network).ban
	case simulatorv1.FaultKind_FAULT_KIND_LOG_OUT:
		return (*Network).logOut
	case simulatorv1.FaultKind_FAULT_KIND_GARBAGE:
		return written((*noise.Conn).WriteGarbage)
	case simulatorv1.FaultKind_FAULT_KIND_STANZA:
		return written(func(conn *noise.Conn) error { return conn.WriteSealed(fault.Stanza) })
	case simulatorv1.FaultKind_FAULT_KIND_LOSE_FILES:
		return func(n *Network, _ *Account) { n.media.lose() }
	case simulatorv1.FaultKind_FAULT_KIND_LARGE_FRAME:
		return written(writeLargest)
	}
	return nil
}

// written has something written to an account's connection, if it has one.
func written(raw func(*noise.Conn) error) func(*Network, *Account) {
	return func(_ *Network, a *Account) {
		if a.Connected() {
			a.device.client.enqueue(outgoing{raw: raw})
		}
	}
}

// writeLargest sends a frame about as long as clients take, with a node that means nothing to them.
func writeLargest(conn *noise.Conn) error {
	const envelope = 64 // the frame's length, what sealing adds, and the node around its content
	_, err := conn.Write(&Node{Tag: "ib", Content: make([]byte, noise.MaxMessage-envelope)})
	return err
}
