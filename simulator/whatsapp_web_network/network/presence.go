package network

import (
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

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
