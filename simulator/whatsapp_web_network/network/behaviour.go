package network

import (
	"time"

	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

// Behaviour is how people behave towards an account, and what limits it has.
type Behaviour struct {
	DeliveredAfter    time.Duration
	ReadAfter         *time.Duration // nil: nobody reads
	AutoReply         string         // empty: nobody answers
	MessagesPerMinute int            // 0: no limit
	Refusals          []Refusal
}

// Refusal is of messages to one address, or to any when it is empty.
type Refusal struct {
	Recipient string
	Reason    simnetv1.RejectReason
	Code      uint32
}

// DefaultBehaviour is that of people whom nobody told otherwise.
func DefaultBehaviour() *Behaviour { return &Behaviour{DeliveredAfter: 50 * time.Millisecond} }

func (n *Network) behaviour(a *Account) *Behaviour {
	if a.own != nil {
		return a.own
	}
	return n.common
}

// codeOf is the number that WhatsApp refuses messages with, so far as clients know one.
func codeOf(refusal Refusal) uint32 {
	if refusal.Code != 0 {
		return refusal.Code
	}
	switch refusal.Reason {
	case simnetv1.RejectReason_REJECT_REASON_UNKNOWN_RECIPIENT:
		return 404
	case simnetv1.RejectReason_REJECT_REASON_NOT_A_MEMBER:
		return 403
	case simnetv1.RejectReason_REJECT_REASON_RATE_LIMITED:
		return 429
	case simnetv1.RejectReason_REJECT_REASON_RESTRICTED:
		return 463
	case simnetv1.RejectReason_REJECT_REASON_BLOCKED:
		return 403 // as to a group whose member the account is not
	case simnetv1.RejectReason_REJECT_REASON_MALFORMED, simnetv1.RejectReason_REJECT_REASON_TOO_LARGE:
		return 479
	}
	return 400
}
