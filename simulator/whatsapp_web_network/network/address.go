package network

import (
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// addressOf is an address of WhatsApp as the mesh writes it.
func (n *Network) addressOf(jid types.JID) string {
	switch jid.Server {
	case types.DefaultUserServer:
		return "phone:+" + jid.User
	case types.HiddenUserServer:
		if number, ok := n.numberOf(jid); ok && !n.settings.Hidden[number] {
			return "phone:+" + number
		}
		return "hidden:" + jid.User
	case types.GroupServer:
		return "group:" + jid.User
	case types.NewsletterServer:
		return "channel:" + jid.User
	case types.BroadcastServer:
		return "status"
	}
	return jid.String()
}

// jidAt is the WhatsApp address at an address of the mesh; empty: it has no valid form.
func (n *Network) jidAt(address string) types.JID {
	kind, value, _ := strings.Cut(address, ":")
	switch kind {
	case "phone", "user":
		return types.NewJID(strings.TrimPrefix(value, "+"), types.DefaultUserServer)
	case "hidden":
		return types.NewJID(strings.TrimSuffix(value, "@lid"), types.HiddenUserServer)
	case "group":
		return types.NewJID(strings.TrimSuffix(value, "@g.us"), types.GroupServer)
	case "channel":
		return types.NewJID(value, types.NewsletterServer)
	case "username":
		for number, name := range n.settings.Usernames {
			if name == value {
				return types.NewJID(number, types.DefaultUserServer)
			}
		}
	}
	return types.EmptyJID
}

// AddressAt is the WhatsApp address at an address of the mesh; empty: it has no valid form.
func (n *Network) AddressAt(address string) types.JID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.jidAt(address)
}

func (n *Network) personAt(address string) *Account { return n.find(n.jidAt(address)) }
