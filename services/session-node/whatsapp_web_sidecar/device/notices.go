package device

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

const (
	// So many stanzas wait to be acknowledged, and what comes behind them waits for them.
	manyNotices = 512
	// For so long, at most; then it stays with the network, which brings it again after the next login.
	noticesTimeout = 5 * time.Second
)

// notices are what the node was told of beside messages, and has not stored. The library acknowledges a stanza when it has
// handled it; of one that had something to tell the acknowledgement is withheld, until the node has all of it stored.
type notices struct {
	mu       sync.Mutex
	sequence uint64
	handling *telling
	open     map[uint64]*telling
	stanzas  int
	fewer    chan struct{}
}

// telling is of a stanza that is acknowledged later, once nothing of it is open.
type telling struct {
	tag      string
	attrs    waBinary.Attrs
	withheld atomic.Bool
	open     int
	handled  bool
	refused  bool
	// Of what was told outside the handling of a stanza: closed once it is stored.
	stored chan struct{}
}

// withholding is the context of handling a stanza: ended, for who asks for that before it acknowledges, once something of the
// stanza is told, and for nobody else.
type withholding struct {
	context.Context
	stanza *telling
}

func (w withholding) Err() error {
	if w.stanza.withheld.Load() {
		return context.Canceled
	}
	return w.Context.Err()
}

// beginNotices is called before the library handles a stanza; what it returns ends that.
func (d *Device) beginNotices(ctx context.Context, node *waBinary.Node) (context.Context, func()) {
	if node.Tag != "notification" && node.Tag != "call" {
		return ctx, func() {}
	}
	n := &d.notices
	begun := &telling{tag: node.Tag, attrs: node.Attrs}
	n.wait(d.ctx)
	n.mu.Lock()
	n.handling = begun
	n.mu.Unlock()
	return withholding{ctx, begun}, func() {
		n.mu.Lock()
		n.handling = nil
		begun.handled = true
		done := begun.withheld.Load() && begun.open == 0
		n.mu.Unlock()
		if done {
			d.acknowledgeStanza(begun)
		}
	}
}

// notify tells the node something that the stanza which is being handled says. The network hears of that once it is stored.
func (d *Device) notify(notice *internalv1.DeviceNotice) {
	n := &d.notices
	n.mu.Lock()
	of := n.handling
	if of == nil {
		n.mu.Unlock()
		d.mention(notice)
		return
	}
	if !of.withheld.Swap(true) {
		if n.stanzas++; n.stanzas > manyNotices {
			of.refused = true
		}
	}
	if of.refused { // it comes again
		n.mu.Unlock()
		return
	}
	n.sequence++
	notice.Sequence = n.sequence
	if n.open == nil {
		n.open = map[uint64]*telling{}
	}
	n.open[notice.Sequence] = of
	of.open++
	n.mu.Unlock()
	d.mention(notice)
}

// tell is for what the library says beside the handling of stanzas, in goroutines of its own: it returns once the node has
// stored it; false: it has not, and that must be said again.
func (d *Device) tell(notice *internalv1.DeviceNotice) bool {
	n := &d.notices
	of := &telling{open: 1, stored: make(chan struct{})}
	n.mu.Lock()
	n.sequence++
	notice.Sequence = n.sequence
	if n.open == nil {
		n.open = map[uint64]*telling{}
	}
	n.open[notice.Sequence] = of
	n.mu.Unlock()
	d.mention(notice)
	select {
	case <-of.stored:
		return true
	case <-time.After(settleTimeout):
	case <-d.ctx.Done():
	}
	n.mu.Lock()
	delete(n.open, notice.Sequence)
	n.mu.Unlock()
	return false
}

// mention tells the node something; the network waits for no word of it.
func (d *Device) mention(notice *internalv1.DeviceNotice) {
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Notice{Notice: notice}})
}

// NoticeStored has the network told of a stanza, if that was the last of it.
func (d *Device) NoticeStored(sequence uint64) {
	n := &d.notices
	n.mu.Lock()
	of := n.open[sequence]
	if of == nil {
		n.mu.Unlock()
		return
	}
	delete(n.open, sequence)
	of.open--
	done := of.handled && of.open == 0
	n.mu.Unlock()
	if of.stored != nil {
		close(of.stored)
	} else if done {
		go d.contain(func() { d.acknowledgeStanza(of) })
	}
}

func (d *Device) acknowledgeStanza(of *telling) {
	n := &d.notices
	n.mu.Lock()
	refused := of.refused
	n.stanzas--
	if n.fewer != nil && n.stanzas < manyNotices {
		close(n.fewer)
		n.fewer = nil
	}
	n.mu.Unlock()
	if client := d.loggedIn(); client != nil && !refused {
		client.DangerousInternals().SendAck(d.ctx, &waBinary.Node{Tag: of.tag, Attrs: of.attrs}, 0)
	}
}

// wait returns once few stanzas wait to be acknowledged.
func (n *notices) wait(ctx context.Context) {
	n.mu.Lock()
	if n.stanzas < manyNotices {
		n.mu.Unlock()
		return
	}
	if n.fewer == nil {
		n.fewer = make(chan struct{})
	}
	fewer := n.fewer
	n.mu.Unlock()
	select {
	case <-fewer:
	case <-time.After(noticesTimeout):
	case <-ctx.Done():
	}
}
