package device

import (
	"context"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// maxReceiptIDs is how many messages or members of a group one receipt may be about; clients tell of some hundred.
const maxReceiptIDs = 1024

// maxReceipts bounds what waits to be acknowledged; beyond it the library acknowledges at once.
const maxReceipts = 4096

const (
	// So many wait to be stored, and what comes behind them waits for them: the node tells of them once a second, and so
	// takes no more of one account's than that.
	manyReceipts = 3072
	// For so long, at most.
	receiptsTimeout = 5 * time.Second
)

// receipts are those that came and are not acknowledged. The library's event of a receipt does not say what its
// acknowledgement needs; the stanza does, which the library shows to its logger before.
type receipts struct {
	mu      sync.Mutex
	last    uint64
	came    []*waBinary.Node
	waiting []waitingReceipt
	fewer   chan struct{}
}

type waitingReceipt struct {
	sequence uint64
	node     *waBinary.Node
}

// see is shown every stanza that comes.
func (r *receipts) see(node *waBinary.Node) {
	if node.Tag != "receipt" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.came) >= maxReceipts { // what is so old had no event: anybody may send many that have none
		r.came = r.came[1:]
	}
	r.came = append(r.came, bare(node))
}

// bare is of a receipt's stanza what its acknowledgement needs, and what tells what it is about: whoever sends it may have
// put anything beside.
func bare(node *waBinary.Node) *waBinary.Node {
	kept := &waBinary.Node{Tag: node.Tag, Attrs: node.Attrs}
	groups := node.GetChildrenByTag("participants")
	for i, group := range groups[:min(len(groups), maxReceiptIDs)] {
		groups[i] = waBinary.Node{Tag: group.Tag, Attrs: group.Attrs}
	}
	if len(groups) > 0 {
		kept.Content = groups[:min(len(groups), maxReceiptIDs)]
	}
	return kept
}

// number gives the receipt of a message its number, 0 when its stanza is not known. A stanza may have several receipts,
// of members of a group: it has the last one's number.
func (r *receipts) number(kind types.ReceiptType, messageID string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, node := range r.came {
		about, of := isAbout(node, kind, messageID)
		if !about {
			continue
		}
		r.came = r.came[i:] // those before had no event, or all of theirs
		if !of {
			r.came = r.came[1:]
		}
		n := len(r.waiting)
		if n > 0 && r.waiting[n-1].node == node {
			r.last++
			r.waiting[n-1].sequence = r.last
			return r.last
		}
		if n >= maxReceipts {
			return 0
		}
		r.last++
		r.waiting = append(r.waiting, waitingReceipt{r.last, node})
		return r.last
	}
	return 0
}

// isAbout says whether a stanza is a receipt of the message, and whether it may be of others, too.
func isAbout(node *waBinary.Node, kind types.ReceiptType, messageID string) (about, several bool) {
	if said, _ := node.Attrs["type"].(string); said != string(kind) {
		return false, false
	}
	groups := node.GetChildrenByTag("participants")
	for _, group := range groups {
		if key, is := group.Attrs["key"].(string); is && key == messageID {
			return true, true
		}
	}
	id, _ := node.Attrs["id"].(string)
	return len(groups) == 0 && id == messageID, false
}

// wait returns once few wait to be stored.
func (r *receipts) wait(ctx context.Context) {
	r.mu.Lock()
	if len(r.waiting) < manyReceipts {
		r.mu.Unlock()
		return
	}
	if r.fewer == nil {
		r.fewer = make(chan struct{})
	}
	fewer := r.fewer
	r.mu.Unlock()
	select {
	case <-fewer:
	case <-time.After(receiptsTimeout):
	case <-ctx.Done():
	}
}

// stored returns the stanzas whose receipts are all stored.
func (r *receipts) stored(upTo uint64) []*waBinary.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	var nodes []*waBinary.Node
	for n < len(r.waiting) && r.waiting[n].sequence <= upTo {
		nodes = append(nodes, r.waiting[n].node)
		n++
	}
	r.waiting = r.waiting[n:]
	if r.fewer != nil && len(r.waiting) < manyReceipts {
		close(r.fewer)
		r.fewer = nil
	}
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
	return nodes
}
