package noise

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/coder/websocket"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
)

// MaxMessage is the longest message of the WebSocket that either side takes: a frame of 16 MiB.
const MaxMessage = 1 << 24

const headerLength = 4

// Conn is one client's connection after its handshake. One goroutine reads; any may write.
type Conn struct {
	// ClientKey is the client's long-term key, by which a paired device is known.
	ClientKey [32]byte
	// Payload is what the client says of itself.
	Payload *waWa6.ClientPayload

	ctx     context.Context
	socket  *websocket.Conn
	header  []byte
	rest    []byte
	read    cipher.AEAD
	readNo  uint32
	mu      sync.Mutex
	write   cipher.AEAD
	writeNo uint32
}

// Accept does the handshake on a new connection; forged: with certificates that the client must refuse.
func Accept(ctx context.Context, socket *websocket.Conn, identity *Identity, forged bool) (*Conn, error) {
	socket.SetReadLimit(MaxMessage)
	c := &Conn{ctx: ctx, socket: socket}
	_, first, err := socket.Read(ctx)
	if err != nil {
		return nil, err
	}
	if len(first) < headerLength || first[0] != 'W' || first[1] != 'A' {
		return nil, errHandshake
	}
	c.header, c.rest = first[:headerLength], first[headerLength:]
	if err := c.handshake(identity, forged); err != nil {
		return nil, err
	}
	return c, nil
}

// Read returns the next node.
func (c *Conn) Read() (*waBinary.Node, int, error) {
	frame, err := c.readFrame()
	if err != nil {
		return nil, 0, err
	}
	packed, err := c.read.Open(nil, nonce(c.readNo), frame, nil)
	c.readNo++
	if err != nil {
		return nil, 0, errors.New("a frame was not sealed with the connection's key")
	}
	if len(packed) < 2 {
		return nil, 0, errors.New("a frame was empty")
	}
	plain, err := waBinary.Unpack(packed)
	if err != nil {
		return nil, 0, err
	}
	node, err := waBinary.Unmarshal(plain)
	return node, len(frame), err
}

// Write sends a node; the number of bytes is what it took.
func (c *Conn) Write(node *waBinary.Node) (int, error) {
	packed, err := waBinary.Marshal(*node)
	if err != nil {
		return 0, err
	}
	return len(packed), c.WriteSealed(packed)
}

// WriteSealed sends bytes in place of a node.
func (c *Conn) WriteSealed(plain []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	sealed := c.write.Seal(nil, nonce(c.writeNo), plain, nil)
	c.writeNo++
	return c.writeFrame(sealed)
}

// garbage is what no stanza begins with, packed or not, and stanzas that end too early: clients that take a beginning for the
// promise of a rest do not live on.
var garbage = [][]byte{
	{0, 5}, {2, 0}, {2, 0xff}, {}, {0}, {0, 248, 1}, {0, 248, 1, 0}, {0, 248, 1, 251, 128}, {0, 248, 1, 250, 0, 3}, {0, 248, 3, 7, 4, 247, 0, 0, 0},
}

// WriteGarbage sends frames that say nothing, and then one that no key opens.
func (c *Conn) WriteGarbage() error {
	noise := make([]byte, 256)
	_, _ = rand.Read(noise)
	for i, beginning := range garbage {
		if i < 3 {
			beginning = append(beginning[:len(beginning):len(beginning)], noise...)
		}
		if err := c.WriteSealed(beginning); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeNo++ // who reads it counts it, too
	return c.writeFrame(noise)
}

// Close ends the connection at once.
func (c *Conn) Close() { _ = c.socket.CloseNow() }

func (c *Conn) readFrame() ([]byte, error) {
	for {
		if len(c.rest) >= 3 {
			length := int(c.rest[0])<<16 | int(c.rest[1])<<8 | int(c.rest[2])
			if len(c.rest) >= 3+length {
				frame := c.rest[3 : 3+length]
				c.rest = c.rest[3+length:]
				return frame, nil
			}
		}
		_, more, err := c.socket.Read(c.ctx)
		if err != nil {
			return nil, err
		}
		c.rest = append(append(make([]byte, 0, len(c.rest)+len(more)), c.rest...), more...)
	}
}

func (c *Conn) writeFrame(body []byte) error {
	frame := make([]byte, 0, 3+len(body))
	frame = append(frame, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)))
	return c.socket.Write(c.ctx, websocket.MessageBinary, append(frame, body...))
}
