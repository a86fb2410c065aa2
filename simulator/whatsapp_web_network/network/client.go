package network

import (
	"errors"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
	"sessionmesh.dev/whatsapp-web-network/noise"
)

const (
	// mostOutgoing is what may wait for a client that does not read; then it is cut off.
	mostOutgoing = 200_000
	// linger is how long a connection that was replaced is still listened to: a network that stopped listening would never
	// see two sessions of an account at once.
	linger = 2 * time.Second
	// parting is how long a client may take to read why its connection ends.
	parting   = 200 * time.Millisecond
	stallPoll = 10 * time.Millisecond
)

var errEnd = errors.New("the connection is to end")

type (
	// Node is a piece of WhatsApp's protocol.
	Node = waBinary.Node
	// Attrs are a Node's attributes.
	Attrs = waBinary.Attrs
)

// client is one connection.
type client struct {
	network *Network
	conn    *noise.Conn
	line    *arriving // nil: it is not known
	number  uint32
	account *Account // nil until it is logged in
	device  *device
	pairing *attempt
	// Whose presence it wants to be told.
	watching map[*Account]bool

	mu     sync.Mutex
	out    []outgoing
	wake   chan struct{}
	ending bool
	done   chan struct{}
}

// outgoing is a node, or with raw something else to write; written is called once it was given to the connection.
type outgoing struct {
	node    *Node
	raw     func(*noise.Conn) error
	written func()
	since   time.Time
	closing time.Duration // 0: it is not the last; else how long after it the connection is closed
}

func newClient(n *Network, conn *noise.Conn, number uint32) *client {
	return &client{
		network: n, conn: conn, number: number, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// send writes a node after all that was to be sent before.
func (c *client) send(node *Node) { c.enqueue(outgoing{node: node}) }

// end sends a node as the last.
func (c *client) end(node *Node) { c.enqueue(outgoing{node: node, closing: parting}) }

func (c *client) enqueue(item outgoing) {
	item.since = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return
	}
	if len(c.out) >= mostOutgoing {
		c.conn.Close()
		return
	}
	c.ending = item.closing > 0
	c.out = append(c.out, item)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what was enqueued until the connection ends.
func (c *client) writeLoop() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		for {
			c.mu.Lock()
			batch := c.out
			c.out = nil
			c.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			for _, item := range batch {
				if !c.write(item) {
					return
				}
			}
		}
	}
}

func (c *client) write(item outgoing) bool {
	e := c.effects()
	if e.latency > 0 && !c.pause(time.Until(item.since.Add(e.latency))) {
		return false
	}
	if !c.unstalled() {
		return false
	}
	size, err := 0, error(nil)
	if item.raw != nil {
		err = item.raw(c.conn)
	} else {
		size, err = c.conn.Write(item.node)
	}
	if err != nil {
		c.conn.Close()
		return false
	}
	if item.written != nil {
		item.written()
	}
	if item.closing > 0 {
		c.pause(item.closing)
		c.conn.Close()
		return false
	}
	return c.narrow(size)
}

// unstalled waits while a fault keeps the connection from being read and written; false: it has ended meanwhile.
func (c *client) unstalled() bool {
	for c.effects().stalled {
		if !c.pause(stallPoll) {
			return false
		}
	}
	return true
}

// narrow waits as long as size bytes take on a narrow line.
func (c *client) narrow(size int) bool {
	if rate := c.effects().bytesPerSecond; rate > 0 {
		return c.pause(time.Duration(size) * time.Second / time.Duration(rate))
	}
	return true
}

func (c *client) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.done:
		return false
	}
}

func (c *client) effects() *effects {
	if c.account != nil {
		if e := c.account.effects.Load(); e != nil {
			return e
		}
	}
	return c.network.general.Load()
}

// readLoop handles what the client sends until the connection ends.
func (c *client) readLoop() {
	for {
		node, size, err := c.conn.Read()
		if err != nil || !c.unstalled() || !c.narrow(size) {
			return
		}
		if err := c.handle(node); err != nil {
			return
		}
	}
}

// closed notes that the connection has ended.
func (c *client) closed() {
	close(c.done)
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgetPairing(c)
	if c.device == nil {
		return
	}
	if c.device.client == c {
		c.device.client = nil
		c.showsOnline(false)
	}
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_CLOSED, Connection: c.number, Account: c.account.Digits,
	})
}

func (c *client) handle(node *Node) error {
	if c.device == nil {
		return c.handleUnpaired(node)
	}
	switch node.Tag {
	case "iq":
		c.query(node)
	case "message":
		c.network.accept(c, node)
	case "receipt":
		c.receipt(node)
	case "ack":
		c.acknowledged(node)
	case "presence":
		c.presence(node)
	case "chatstate":
		c.chatState(node)
	case "call":
		c.rejectsCall(node)
	case "xmlstreamend":
		return errEnd
	}
	return nil
}
