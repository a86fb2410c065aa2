package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"go.mau.fi/whatsmeow/types"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

// ErrNoCall says that no such call rings.
var ErrNoCall = errors.New("no such call rings")

// ringing is a call to an account that has not ended.
type ringing struct {
	caller *Account
	group  types.JID
}

// Ringing is how many calls to an account have not ended.
func (a *Account) Ringing() int { return len(a.ringing) }

// Call has a person call an account, or with a group that; it returns the call's id.
func (n *Network) Call(account *Account, caller, group string, video bool) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	person := n.personAt(caller)
	if person == nil {
		return "", ErrNobody
	}
	if account.device == nil {
		return "", ErrNotPaired
	}
	id := callID()
	call := ringing{caller: person}
	if group != "" {
		call.group = n.jidAt(group)
	}
	if account.ringing == nil {
		account.ringing = map[string]ringing{}
	}
	account.ringing[id] = call
	attrs, media := n.callAttrs(id, call), []Node{{Tag: "audio", Attrs: Attrs{"enc": "opus", "rate": "16000"}}}
	if video {
		media = append(media, Node{Tag: "video", Attrs: Attrs{"dec": "vp8"}})
	}
	offer := Node{Tag: "offer", Attrs: attrs, Content: media}
	if group != "" {
		offer = Node{Tag: "offer_notice", Attrs: attrs}
		attrs["media"], attrs["type"] = "audio", "group"
		if video {
			attrs["media"] = "video"
		}
	}
	n.ring(account, person, offer)
	return id, nil
}

// EndCall ends a call that rings.
func (n *Network) EndCall(account *Account, id string, why simnetv1.CallEnd) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	call, rings := account.ringing[id]
	if !rings {
		return ErrNoCall
	}
	delete(account.ringing, id)
	attrs := n.callAttrs(id, call)
	if reason := callReasons[why]; reason != "" {
		attrs["reason"] = reason
	}
	n.ring(account, call.caller, Node{Tag: "terminate", Attrs: attrs})
	return nil
}

// rejectsCall: the client rejects a call, which rings no more.
func (c *client) rejectsCall(node *Node) {
	reject := node.GetChildByTag("reject")
	id, _ := reject.Attrs["call-id"].(string)
	creator, _ := reject.Attrs["call-creator"].(types.JID)
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if call, rings := c.account.ringing[id]; rings && n.find(creator) == call.caller {
		delete(c.account.ringing, id)
	}
	c.send(&Node{Tag: "ack", Attrs: Attrs{"class": "call", "id": node.Attrs["id"], "from": node.Attrs["to"]}})
}

// callReasons are the network's words for why a call ends; when the caller gives up it says nothing.
var callReasons = map[simnetv1.CallEnd]string{
	simnetv1.CallEnd_CALL_END_ACCEPTED_ELSEWHERE: "accepted_elsewhere",
	simnetv1.CallEnd_CALL_END_REJECTED_ELSEWHERE: "rejected_elsewhere",
	simnetv1.CallEnd_CALL_END_TIMED_OUT:          "timeout",
	simnetv1.CallEnd_CALL_END_BUSY:               "busy",
	simnetv1.CallEnd_CALL_END_FAILED:             "failed",
}

func (n *Network) callAttrs(id string, call ringing) Attrs {
	attrs := Attrs{"call-id": id, "call-creator": call.caller.lid()}
	if !n.settings.Hidden[call.caller.Digits] {
		attrs["caller_pn"] = call.caller.jid()
	}
	if !call.group.IsEmpty() {
		attrs["group-jid"] = call.group
	}
	return attrs
}

func (n *Network) ring(account, caller *Account, part Node) {
	id := callID()
	n.deliver(account, &pending{key: "call|" + id, node: &Node{Tag: "call", Attrs: Attrs{
		"id": id, "from": caller.lid(), "t": now(), "platform": "android", "version": "2.25.1",
	}, Content: []Node{part}}})
}

func callID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return strings.ToUpper(hex.EncodeToString(id[:]))
}
