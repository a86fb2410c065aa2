package device

import (
	"context"
	"sync"
	"time"

	"go.mau.fi/libsignal/protocol"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types/events"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// The library handles one stanza after the other, keeps in memory all that it has read meanwhile, and waits for the network
// in between: for the account's phone where a message cannot be decrypted, which anybody can have it do. So what waits for
// the network is done aside, some of it, and what is read ahead is bounded.

const (
	// What may wait to be done aside. What is beyond stays with the network, which brings it again after the next login.
	maxAside = 1024
	// How often somebody is asked to send a message again, or the phone to show it.
	askAgainEvery = 50 * time.Millisecond
	// What may be read and not handled: stanzas, and their bytes.
	maxUnhandled      = 1024
	maxUnhandledBytes = 4 << 20
	// How many messages are remembered that somebody was asked for again.
	maxAskedAgain = 4096
	// How many notifications are handled at a time.
	maxBeside = 32
)

// aside does one thing after the other.
type aside struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

// do has something done in its turn; false: too much waits.
func (a *aside) do(d *Device, work func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= maxAside {
		return false
	}
	a.waiting = append(a.waiting, work)
	if !a.running {
		a.running = true
		go d.contain(func() { a.run(d.ctx) })
	}
	return true
}

func (a *aside) run(ctx context.Context) {
	for {
		a.mu.Lock()
		if len(a.waiting) == 0 || ctx.Err() != nil {
			a.waiting, a.running = nil, false
			a.mu.Unlock()
			return
		}
		work := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.mu.Unlock()
		work()
	}
}

// handleAside does aside what would wait for the network; false: the library may handle the stanza now.
func (d *Device) handleAside(
	ctx context.Context, client *whatsmeow.Client, node *waBinary.Node, handle func(context.Context, *waBinary.Node),
) bool {
	internals := client.DangerousInternals()
	switch {
	case node.Tag == "receipt" && node.Attrs["type"] == "retry":
		receipt, _, err := internals.ParseReceipt(node)
		if err != nil {
			return false
		}
		d.later(&d.resending, "somebody's request for a message", func() { internals.TryHandleRetryReceipt(ctx, receipt, node) })
	case node.Tag != "message":
		return false
	case len(node.GetChildrenByTag("enc")) == 0:
		unavailable, is := node.GetOptionalChildByTag("unavailable")
		if !is {
			return false
		}
		kind := events.UnavailableType(unavailable.AttrGetter().OptionalString("type"))
		d.later(&d.askingAgain, "a message that only the phone has", func() {
			info, err := internals.ParseMessageInfo(outline(node))
			if err != nil || d.keepUnavailable(*info, kind) {
				handle(ctx, outline(node))
			}
		})
	case !sealed(node):
		d.askAgain(ctx, client, node, nil)
	default:
		decrypting := &rows.Decrypting{}
		handle(rows.WithDecrypting(ctx, decrypting), node)
		if decrypting.Failed != nil {
			d.askAgain(ctx, client, node, decrypting)
		}
	}
	return true
}

// askAgain has whoever sent a message, which cannot be decrypted, send it again.
func (d *Device) askAgain(ctx context.Context, client *whatsmeow.Client, node *waBinary.Node, failed *rows.Decrypting) {
	direct, shown := false, events.DecryptFailShow
	for _, part := range node.GetChildrenByTag("enc") {
		direct = direct || part.Attrs["type"] != "skmsg"
		if part.Attrs["decrypt-fail"] == string(events.DecryptFailHide) {
			shown = events.DecryptFailHide
		}
	}
	withKeys := failed != nil && failed.NoSenderKey() && !direct
	node = outline(node)
	d.later(&d.askingAgain, "a message that cannot be decrypted", func() {
		internals := client.DangerousInternals()
		info, err := internals.ParseMessageInfo(node)
		if err != nil {
			return
		}
		if !d.await(&events.UndecryptableMessage{Info: *info, DecryptFailMode: shown}) {
			return // the network brings it again
		}
		forgetMany(client)
		internals.SendRetryReceipt(ctx, node, info, withKeys)
		internals.SendAck(ctx, node, 0)
		select {
		case <-time.After(askAgainEvery):
		case <-d.ctx.Done():
		}
	})
}

func (d *Device) later(queue *aside, what string, work func()) {
	if !queue.do(d, work) {
		d.log.write(levelWarning, what+" waits until after the next login: there are too many")
	}
}

// outline is a stanza without what its parts have in them.
func outline(node *waBinary.Node) *waBinary.Node {
	parts := node.GetChildren()
	kept := make([]waBinary.Node, len(parts))
	for i, part := range parts {
		kept[i] = waBinary.Node{Tag: part.Tag, Attrs: part.Attrs}
	}
	return &waBinary.Node{Tag: node.Tag, Attrs: node.Attrs, Content: kept}
}

// sealed says whether the encrypted parts of a message are such.
func sealed(node *waBinary.Node) bool {
	serializer := store.SignalProtobufSerializer
	for _, part := range node.GetChildrenByTag("enc") {
		var err error
		kind := part.Attrs["type"]
		content, is := part.Content.([]byte)
		switch kind {
		case "msg":
			_, err = protocol.NewSignalMessageFromBytes(content, serializer.SignalMessage)
		case "pkmsg":
			_, err = protocol.NewPreKeySignalMessageFromBytes(content, serializer.PreKeySignalMessage, serializer.SignalMessage)
		case "skmsg":
			_, err = protocol.NewSenderKeyMessageFromBytes(content, serializer.SenderKeyMessage)
		default:
			continue
		}
		if err != nil || !is {
			return false
		}
	}
	return true
}

// forgetMany lets go of how often messages were asked for, which the library counts for ever.
func forgetMany(client *whatsmeow.Client) {
	lock := private(client, "messageRetriesLock").Addr().Interface().(*sync.Mutex)
	lock.Lock()
	defer lock.Unlock()
	if counts := private(client, "messageRetries"); counts.Len() > maxAskedAgain {
		counts.Clear()
	}
}

// unhandled is what was read and is not handled yet.
type unhandled struct {
	mu      sync.Mutex
	stanzas int
	bytes   int
	fewer   chan struct{}
}

func (u *unhandled) queued(node *waBinary.Node) bool {
	switch node.Tag {
	case "message", "receipt", "notification", "call", "presence", "chatstate":
		return true
	}
	return false
}

// see is shown every stanza that comes.
func (u *unhandled) see(node *waBinary.Node) {
	if u.queued(node) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.stanzas++
		u.bytes += sizeOf(node)
	}
}

// done says that a stanza is handled.
func (u *unhandled) done(node *waBinary.Node, size int) {
	if u.queued(node) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.stanzas--
		u.bytes -= size
		if u.fewer != nil && !u.full() {
			close(u.fewer)
			u.fewer = nil
		}
	}
}

func (u *unhandled) full() bool { return u.stanzas >= maxUnhandled || u.bytes >= maxUnhandledBytes }

// wait returns once more may be read.
func (u *unhandled) wait(ctx context.Context) {
	for {
		u.mu.Lock()
		if !u.full() {
			u.mu.Unlock()
			return
		}
		if u.fewer == nil {
			u.fewer = make(chan struct{})
		}
		fewer := u.fewer
		u.mu.Unlock()
		select {
		case <-fewer:
		case <-ctx.Done():
			return
		}
	}
}
