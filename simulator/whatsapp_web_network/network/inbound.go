package network

import (
	"strconv"

	"go.mau.fi/whatsmeow/types"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
)

const mostRetries = 5

// receipt is what a client says became of messages that it got.
func (c *client) receipt(node *Node) {
	n := c.network
	id, _ := node.Attrs["id"].(string)
	kind := text(node.Attrs["type"])
	to, _ := node.Attrs["to"].(types.JID)
	attrs := Attrs{"class": "receipt", "id": id, "from": to}
	if kind != "" {
		attrs["type"] = kind
	}
	if participant, ok := node.Attrs["participant"]; ok {
		attrs["participant"] = participant
	}
	c.send(&Node{Tag: "ack", Attrs: attrs})
	n.mu.Lock()
	defer n.mu.Unlock()
	switch kind {
	case "", "inactive", "sender", "peer_msg":
		for _, each := range receiptIDs(node, id) {
			n.settled(c, each)
		}
	case "retry":
		n.askedAgain(c, node, id)
	case "server-error":
		n.deliver(c.account, &pending{key: "notification|" + id, node: n.answerForFile(node, id)})
	case "read", "played", "read-self":
		n.readReported(c, node, to, receiptIDs(node, id), kind)
	}
}

func receiptIDs(node *Node, first string) []string {
	ids := []string{first}
	list := node.GetChildByTag("list")
	for _, item := range list.GetChildren() {
		if id, ok := item.Attrs["id"].(string); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// settled: the client has a message; its author is told.
func (n *Network) settled(c *client, id string) {
	kind := simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_ACKED
	dropped := c.effects().dropInboundAcks
	if dropped {
		kind = simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_ACK_DROPPED
	}
	item := c.device.find("message|" + id)
	if item == nil {
		return
	}
	if item.messageID != "" {
		n.Ledger.Append(ledger.Record{
			Kind: kind, Connection: c.number, Account: c.account.Digits, ID: id,
		})
	}
	if dropped {
		return
	}
	c.device.forget(item.key)
	if item.from != nil && item.from != c.account {
		chat, _ := item.node.Attrs["from"].(types.JID)
		member := ""
		if ofMany(chat) {
			member = c.account.Phone
		}
		n.confirm(item.from, c.account, chat, id, member, simnetv1.ReceiptKind_RECEIPT_KIND_DELIVERED)
	}
}

// acknowledged is the client's word that it has what was no message, or a message that it will not show.
func (c *client) acknowledged(node *Node) {
	n := c.network
	id, _ := node.Attrs["id"].(string)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch class := text(node.Attrs["class"]); class {
	case "message":
		if item := c.device.find("message|" + id); item != nil && item.retried {
			item.retried = false
			return
		}
		n.settled(c, id)
	case "receipt":
		from, _ := node.Attrs["to"].(types.JID)
		if participant, ok := node.Attrs["participant"].(types.JID); ok {
			from = participant
		}
		if number, ok := n.numberOf(from); ok {
			c.device.forget(receiptKey(text(node.Attrs["type"]), id, hiddenIDOf(number)))
		}
	default:
		c.device.forget(class + "|" + id)
	}
}

// askedAgain: the client could not read a message. A phone encrypts it anew; another device is asked to.
func (n *Network) askedAgain(c *client, node *Node, id string) {
	to, _ := node.Attrs["to"].(types.JID)
	author := to
	if participant, ok := node.Attrs["participant"].(types.JID); ok {
		author = participant
	}
	person := n.find(author)
	if person == nil {
		return
	}
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE, Connection: c.number, Account: c.account.Digits, ID: id,
	})
	if author.Device != 0 {
		n.passRetry(c, person, node, to, id)
		return
	}
	item := c.device.find("message|" + id)
	if item != nil {
		item.retried = true
	} else if item = c.device.recall("message|" + id); item == nil {
		return
	}
	retry := node.GetChildByTag("retry")
	count, _ := strconv.Atoi(text(retry.Attrs["count"]))
	if count > mostRetries || item.again == nil {
		return
	}
	ends := n.phoneOf(person)
	if _, ok := node.GetOptionalChildByTag("keys"); ok {
		_ = ends.Meet(c.device.lid, *node)
	} else {
		_ = n.meet(ends, c.account)
	}
	if again := item.again(count); again != nil {
		item.node = again
		n.offer(c, item)
	}
}

// passRetry tells the author's device, which sends the message to the one that asked.
func (n *Network) passRetry(c *client, author *Account, node *Node, to types.JID, id string) {
	attrs := Attrs{"id": id, "t": now(), "type": "retry", "from": c.device.lid}
	if to.Server == types.GroupServer {
		attrs["from"], attrs["participant"] = to, c.device.lid
	}
	c.device.forget("message|" + id)
	n.deliver(author, &pending{
		key:  receiptKey("retry", id, c.account.HiddenID),
		node: &Node{Tag: "receipt", Attrs: attrs, Content: node.Content},
	})
}

// readReported: the client's user has seen messages; an author with a device is told.
func (n *Network) readReported(c *client, node *Node, to types.JID, ids []string, kind string) {
	code := simnetv1.ReceiptKind_RECEIPT_KIND_READ
	if kind == "played" {
		code = simnetv1.ReceiptKind_RECEIPT_KIND_PLAYED
	}
	author, member := to, ""
	if participant, ok := node.Attrs["participant"].(types.JID); ok && ofMany(to) {
		author, member = participant, c.account.Phone
	}
	for _, id := range ids {
		n.Ledger.Append(ledger.Record{
			Kind:       simulatorv1.LedgerKind_LEDGER_KIND_READ_REPORTED,
			Connection: c.number, Account: c.account.Digits, Code: uint32(code), ID: id, Peer: n.addressOf(to),
		})
		person := n.find(author)
		if person != nil && person.device != nil && kind != "read-self" && c.device.cameFrom(id, to, author) {
			n.confirm(person, c.account, to, id, member, code)
		}
	}
}

// chatState tells another account that somebody writes, if it is online.
func (c *client) chatState(node *Node) {
	to, _ := node.Attrs["to"].(types.JID)
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	shown := simnetv1.TypingState_TYPING_STATE_PAUSED
	if composing, ok := node.GetOptionalChildByTag("composing"); ok {
		shown = simnetv1.TypingState_TYPING_STATE_TYPING
		if text(composing.Attrs["media"]) == "audio" {
			shown = simnetv1.TypingState_TYPING_STATE_RECORDING
		}
	}
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_TYPING, Account: c.account.Digits, Code: uint32(shown), Peer: n.addressOf(to),
	})
	if person := n.find(to); person != nil && person.Connected() && person != c.account {
		person.device.client.send(&Node{Tag: "chatstate", Attrs: Attrs{
			"from": c.account.lid(), "sender_pn": c.account.jid(),
		}, Content: node.Content})
	}
}
