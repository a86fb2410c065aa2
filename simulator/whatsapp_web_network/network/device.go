package network

import (
	"slices"

	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/types"
)

// oneTimeKey is an id of 3 bytes and a public key of 32. A device uploads 812: as nodes they would take ten times the space.
type oneTimeKey [35]byte

// device is a client that an account's phone has linked.
type device struct {
	account      *Account
	jid, lid     types.JID
	key          [32]byte
	identity     []byte
	registration []byte
	properties   *waCompanionReg.DeviceProps
	signed       Node
	oneTime      []oneTimeKey
	welcomed     bool
	client       *client
	queue        []*pending
	settled      []*pending // the latest that it acknowledged: it may still ask for one of them again
}

// pending is what a device has not acknowledged; it is sent again after every login.
type pending struct {
	key       string
	node      *Node
	messageID string // of a message for the account
	from      *Account
	retried   bool // the next acknowledgement is of the first try
	// again encrypts what a phone of the network wrote once more; nil: another device wrote it.
	again func(count int) *Node
}

// bundle is what others need to write to the device first; repeat: the one-time key is given away again.
func (d *device) bundle(repeat bool) []Node {
	nodes := []Node{
		{Tag: "registration", Content: d.registration},
		{Tag: "type", Content: []byte{5}},
		{Tag: "identity", Content: d.identity},
		d.signed,
	}
	if len(d.oneTime) > 0 {
		key := d.oneTime[0]
		nodes = append(nodes, Node{Tag: "key", Content: []Node{
			{Tag: "id", Content: key[:3]}, {Tag: "value", Content: key[3:]},
		}})
		if !repeat {
			d.oneTime = d.oneTime[1:]
		}
	}
	return nodes
}

// learnKeys keeps what the device uploaded for others.
func (d *device) learnKeys(node *Node) {
	if signed, ok := node.GetOptionalChildByTag("skey"); ok {
		d.signed = cloned(signed)
	}
	list := node.GetChildByTag("list")
	for _, key := range list.GetChildren() {
		id, _ := key.GetChildByTag("id").Content.([]byte)
		value, _ := key.GetChildByTag("value").Content.([]byte)
		if len(id) == 3 && len(value) == 32 {
			d.oneTime = append(d.oneTime, oneTimeKey(append(append([]byte{}, id...), value...)))
		}
	}
}

const mostSettled = 32

// forget takes what the device has acknowledged out of its queue, and returns it.
func (d *device) forget(key string) *pending {
	for i, item := range d.queue {
		if item.key == key {
			d.queue = slices.Delete(d.queue, i, i+1) // not copied: a flood makes it long
			if item.again != nil {
				d.settled = append(d.settled, item)
				d.settled = d.settled[max(0, len(d.settled)-mostSettled):]
			}
			return item
		}
	}
	return nil
}

// recall puts a message back that the device acknowledged before it asked for it again: it says both at once.
func (d *device) recall(key string) *pending {
	for i, item := range d.settled {
		if item.key == key {
			d.settled = slices.Delete(d.settled, i, i+1)
			d.queue = append(d.queue, item)
			return item
		}
	}
	return nil
}

func (d *device) find(key string) *pending {
	for _, item := range d.queue {
		if item.key == key {
			return item
		}
	}
	return nil
}

// cloned is a node that does not hold on to the frame, with all other keys in it, that it came in.
func cloned(node Node) Node {
	switch content := node.Content.(type) {
	case []byte:
		node.Content = slices.Clone(content)
	case []Node:
		children := make([]Node, len(content))
		for i, child := range content {
			children[i] = cloned(child)
		}
		node.Content = children
	}
	return node
}

// cameFrom says whether a message came by these ids, so far as the network still has it: who wrote it finds it by no others.
func (d *device) cameFrom(id string, chat, author types.JID) bool {
	key := "message|" + id
	item := d.find(key)
	if item == nil {
		at := slices.IndexFunc(d.settled, func(settled *pending) bool { return settled.key == key })
		if at < 0 {
			return true
		}
		item = d.settled[at]
	}
	from, _ := item.node.Attrs["from"].(types.JID)
	writer, is := item.node.Attrs["participant"].(types.JID)
	if !is {
		writer = from
	}
	return from.ToNonAD() == chat.ToNonAD() && writer.ToNonAD() == author.ToNonAD()
}
