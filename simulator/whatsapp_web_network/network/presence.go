package network

import (
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

// shown is how somebody is; without a time they do not show when they were there last.
type shown struct {
	online bool
	seen   time.Time
}

// presence is whether the client shows as online, or of whom it wants to know that.
func (c *client) presence(node *Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if node.Attrs["type"] != "subscribe" {
		if name, ok := node.Attrs["name"].(string); ok && name != "" {
			c.account.PushName = name
		}
		c.showsOnline(node.Attrs["type"] == "available")
		return
	}
	to, _ := node.Attrs["to"].(types.JID)
	person := n.find(to)
	if person == nil {
		return
	}
	if c.watching == nil {
		c.watching = map[*Account]bool{}
	}
	c.watching[person] = true
	if person.shown != nil {
		n.tellPresence(c, person)
	}
}

// showsOnline is called with the network's lock.
func (c *client) showsOnline(online bool) {
	if c.account == nil || (!online && (c.account.shown == nil || !c.account.shown.online)) {
		return
	}
	next := &shown{online: online}
	if !online {
		next.seen = time.Now()
	}
	c.network.show(c.account, next)
}

// ShowPresence has a person come online, or go.
func (n *Network) ShowPresence(address string, online bool, seen time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	person := n.personAt(address)
	if person == nil {
		return ErrNobody
	}
	n.show(person, &shown{online, seen})
	return nil
}

func (n *Network) show(person *Account, next *shown) {
	person.shown = next
	for _, account := range n.accounts {
		if account.Connected() && account.device.client.watching[person] {
			n.tellPresence(account.device.client, person)
		}
	}
}

func (n *Network) tellPresence(c *client, person *Account) {
	attrs := Attrs{"from": person.lid()}
	if !person.shown.online {
		attrs["type"], attrs["last"] = "unavailable", "deny"
		if !person.shown.seen.IsZero() {
			attrs["last"] = strconv.FormatInt(person.shown.seen.Unix(), 10)
		}
	}
	c.send(&Node{Tag: "presence", Attrs: attrs})
}

// Online tells whether the account's client shows it as online.
func (a *Account) Online() bool { return a.shown != nil && a.shown.online }

// ShowTyping tells an account, if it is online, what a person does in their chat, or in a group.
func (n *Network) ShowTyping(account *Account, person, group string, state simnetv1.TypingState) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	sender := n.personAt(person)
	if sender == nil {
		return ErrNobody
	}
	if !account.Connected() {
		return nil
	}
	attrs := Attrs{"from": sender.lid()}
	if !n.settings.Hidden[sender.Digits] {
		attrs["sender_pn"] = sender.jid()
	}
	if group != "" {
		attrs["from"], attrs["participant"] = n.jidAt(group), sender.lid()
		if pn, shown := attrs["sender_pn"]; shown {
			attrs["participant_pn"] = pn
			delete(attrs, "sender_pn")
		}
	}
	shown := Node{Tag: "paused"}
	switch state {
	case simnetv1.TypingState_TYPING_STATE_TYPING:
		shown = Node{Tag: "composing"}
	case simnetv1.TypingState_TYPING_STATE_RECORDING:
		shown = Node{Tag: "composing", Attrs: Attrs{"media": "audio"}}
	}
	account.device.client.send(&Node{Tag: "chatstate", Attrs: attrs, Content: []Node{shown}})
	return nil
}
