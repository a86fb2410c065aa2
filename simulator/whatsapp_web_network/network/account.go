package network

import (
	"strings"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"

	"sessionmesh.dev/whatsapp-web-network/phone"
)

// knownIDs is how many message ids of an account are remembered, to know those that come again.
const knownIDs = 100_000

// Account is a number of the network: a person with a phone, and at most one linked device. All but its phone belongs to the
// lock of the Network.
type Account struct {
	Phone    string // E.164
	Digits   string // the same without the plus, which is its user id
	HiddenID string
	PushName string
	Banned   bool
	// Listed: somebody made it an account. Others are only people whom accounts write to.
	Listed  bool
	Counter int64

	keys       *keys.KeyPair
	phone      *phone.Phone
	device     *device
	lastDevice uint16
	known      map[string]struct{}
	order      []string
	own        *Behaviour
	effects    atomic.Pointer[effects]
	receipts   uint64
	inbound    uint64
	spent      []time.Time
	patches    map[string][][]byte
	shared     *sharedState
	blocked    map[string]struct{} // numbers of whom it has blocked
	ringing    map[string]ringing  // calls to it, by their ids
	shown      *shown              // nil: nobody knows
	profile    profile
	knows      map[string]struct{} // numbers of whom it has asked about
	past       map[types.JID]*Past // what its phone still has of chats
}

// Paired tells whether the account has a linked device.
func (a *Account) Paired() bool { return a.device != nil }

// DeviceName is what the linked device called itself; empty without one.
func (a *Account) DeviceName() string {
	if a.device == nil {
		return ""
	}
	return a.device.properties.GetOs()
}

// WithHistory tells whether the linked device asked for all of the chats' past.
func (a *Account) WithHistory() bool {
	return a.device != nil && a.device.properties.GetRequireFullSync()
}

// Connected tells whether its linked device is logged in.
func (a *Account) Connected() bool { return a.device != nil && a.device.client != nil }

// Pending is how many messages wait for its linked device.
func (a *Account) Pending() int {
	if a.device == nil {
		return 0
	}
	count := 0
	for _, item := range a.device.queue {
		if item.messageID != "" {
			count++
		}
	}
	return count
}

// PendingNotices is how much else waits for it but messages and receipts.
func (a *Account) PendingNotices() int {
	if a.device == nil {
		return 0
	}
	count := 0
	for _, item := range a.device.queue {
		if item.node.Tag == "notification" || item.node.Tag == "call" {
			count++
		}
	}
	return count
}

func (a *Account) jid() types.JID { return types.NewJID(a.Digits, types.DefaultUserServer) }

func (a *Account) lid() types.JID { return types.NewJID(a.HiddenID, types.HiddenUserServer) }

// remember tells whether the account used a message id for the first time.
func (a *Account) remember(id string) bool {
	if _, known := a.known[id]; known {
		return false
	}
	if len(a.order) >= knownIDs {
		delete(a.known, a.order[0])
		a.order = a.order[1:]
	}
	if a.known == nil {
		a.known = map[string]struct{}{}
	}
	a.known[id] = struct{}{}
	a.order = append(a.order, id)
	return true
}

// wait is how long a limit of messages a minute makes the account wait; 0: it may send, and has used one up.
func (a *Account) wait(perMinute int, now time.Time) time.Duration {
	for len(a.spent) > 0 && now.Sub(a.spent[0]) > time.Minute {
		a.spent = a.spent[1:]
	}
	if len(a.spent) >= perMinute {
		return time.Minute - now.Sub(a.spent[0])
	}
	a.spent = append(a.spent, now)
	return 0
}

// hiddenIDOf and digitsOf map numbers to hidden ids and back: every number has one, whether somebody asked or not.
func hiddenIDOf(digits string) string { return "9" + digits }

func digitsOf(hiddenID string) string { return strings.TrimPrefix(hiddenID, "9") }

func isPhone(digits string) bool {
	if len(digits) < 7 || len(digits) > 15 || digits[0] == '0' {
		return false
	}
	for _, r := range digits {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
