package network

import (
	"go.mau.fi/whatsmeow/types"

	waBinary "go.mau.fi/whatsmeow/binary"
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
	signed       waBinary.Node
	oneTime      []oneTimeKey
	welcomed     bool
	client       *client
	queue        []*pending
}

// pending is what a device has not acknowledged; it is sent again after every login.
type pending struct {
	key       string
	node      *waBinary.Node
	messageID string // of a message for the account
	from      *Account
	plain     []byte // what a phone of the network encrypted, to do it anew when the device cannot read it
	retried   bool   // an acknowledgement is of the first try, and comes after the device asked again
	again     func(count int) *waBinary.Node
}

// bundle is what others need to write to the device first; repeat: the one-time key is given away again.
func (d *device) bundle(repeat bool) []waBinary.Node {
	nodes := []waBinary.Node{
		{Tag: "registration", Content: d.registration},
		{Tag: "type", Content: []byte{5}},
		{Tag: "identity", Content: d.identity},
		d.signed,
	}
	if len(d.oneTime) > 0 {
		key := d.oneTime[0]
		nodes = append(nodes, waBinary.Node{Tag: "key", Content: []waBinary.Node{
			{Tag: "id", Content: key[:3]}, {Tag: "value", Content: key[3:]},
		}})
		if !repeat {
			d.oneTime = d.oneTime[1:]
		}
	}
	return nodes
}

// learnKeys keeps what the device uploaded for others.
func (d *device) learnKeys(node *waBinary.Node) {
	if signed, ok := node.GetOptionalChildByTag("skey"); ok {
		d.signed = signed
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

// forget takes what the device has acknowledged out of its queue, and returns it.
func (d *device) forget(key string) *pending {
	for i, item := range d.queue {
		if item.key == key {
			d.queue = append(d.queue[:i:i], d.queue[i+1:]...)
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
