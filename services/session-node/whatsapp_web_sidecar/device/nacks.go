package device

import (
	"sync"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// maxNacks bounds the refusals that nobody has asked for yet: more messages than this are not on their way at once.
const maxNacks = maxCalls + 16

// nacks are the numbers with which the network has refused messages, by their ids: the library has them only in the text of
// its error, and sends several messages of an account at once.
type nacks struct {
	mu    sync.Mutex
	codes map[string]uint32
	order []string
}

// see is shown every stanza that comes, before the library is.
func (n *nacks) see(node *waBinary.Node) {
	if node.Tag != "ack" || node.Attrs["error"] == nil {
		return
	}
	attrs := node.AttrGetter()
	id, code := attrs.OptionalString("id"), uint32(attrs.OptionalInt("error"))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.codes == nil {
		n.codes = map[string]uint32{}
	}
	if _, known := n.codes[id]; !known {
		n.order = append(n.order, id)
	}
	n.codes[id] = code
	for len(n.order) > maxNacks {
		delete(n.codes, n.order[0])
		n.order = n.order[1:]
	}
}

// of is the number with which a message was refused last; 0: it is not known.
func (n *nacks) of(id string) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.codes[id]
}
