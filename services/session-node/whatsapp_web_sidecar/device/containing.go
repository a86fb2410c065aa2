package device

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// The library reads what the network sends in goroutines of its own, where a panic is the end of the process and of all
// accounts' connections. It gives no way to be there, so this takes two of its private fields: what it does with a frame,
// and what it does with a stanza.

// maxTrace is how many bytes of a panic's stack are logged.
const maxTrace = 4 << 10

// contain runs what reads what others send. Where it panics the connection ends, and nothing else.
func (d *Device) contain(run func()) {
	defer func() {
		if problem := recover(); problem != nil {
			trace := debug.Stack()
			d.log.write(levelError, "what was sent to the account could not be read", "problem", fmt.Sprint(problem),
				"trace", string(trace[:min(len(trace), maxTrace)]))
			d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "what was sent to the account could not be read", 0)
		}
	}()
	run()
}

// containStanzas has the client handle stanzas contained. Before it connects.
func (d *Device) containStanzas(client *whatsmeow.Client) {
	handlers := private(client, "nodeHandlers")
	for _, tag := range handlers.MapKeys() {
		var handle func(context.Context, *waBinary.Node)
		reflect.ValueOf(&handle).Elem().Set(handlers.MapIndex(tag).Convert(reflect.TypeOf(handle)))
		contained := func(ctx context.Context, node *waBinary.Node) {
			d.came.Store(time.Now().UnixNano())
			defer d.unhandled.done(node, sizeOf(node))
			d.contain(func() {
				ctx, end := d.beginNotices(ctx, node)
				defer end()
				defer d.handleGroup(node)()
				if !d.passOver(ctx, client, node) && !d.handleBeside(ctx, client, node) && !d.handleAside(ctx, client, node, handle) {
					handle(ctx, node)
				}
			})
		}
		handlers.SetMapIndex(tag, reflect.ValueOf(contained).Convert(handlers.Type().Elem()))
	}
}

// handleBeside handles the notifications that the library would handle in one more goroutine.
func (d *Device) handleBeside(ctx context.Context, client *whatsmeow.Client, node *waBinary.Node) bool {
	if node.Tag != "notification" {
		return false
	}
	internals := client.DangerousInternals()
	var handle func(context.Context, *waBinary.Node)
	switch node.Attrs["type"] {
	case "encrypt":
		handle = internals.HandleEncryptNotification
	case "server_sync":
		handle = nil // acknowledged once that is stored
	case "account_sync":
		handle = internals.HandleAccountSyncNotification
	case "link_code_companion_reg":
		handle = internals.TryHandleCodePairNotification
	case "crsc_continuation":
		handle = internals.TryHandlePasskeyContinuationNotification
	default:
		return false
	}
	select {
	case d.beside <- struct{}{}:
	default:
		d.log.write(levelWarning, "a notification waits until after the next login: there are too many")
		return true
	}
	acknowledge := internals.MaybeDeferredAck(ctx, node)
	if handle == nil {
		handle = func(_ context.Context, node *waBinary.Node) { d.onLogsChanged(node, acknowledge) }
	} else {
		defer acknowledge()
	}
	go d.contain(func() {
		defer func() { <-d.beside }()
		handle(ctx, node)
	})
	return true
}

// handleContained is handle, contained: of what it does not return from nothing is acknowledged.
func (d *Device) handleContained(event any) (done bool) {
	d.contain(func() { done = d.handle(event) })
	return done
}

// connectContained connects the client, and has it handle frames contained from the first one on: between its part of the
// handshake and that, nothing is read.
func (d *Device) connectContained(client *whatsmeow.Client) error {
	payload := client.GetClientPayload
	if payload == nil {
		payload = client.Store.GetClientPayload
	}
	client.GetClientPayload = func() *waWa6.ClientPayload {
		d.line.hold(true)
		return payload()
	}
	defer d.line.hold(false)
	if err := client.ConnectContext(d.ctx); err != nil {
		return err
	}
	lock := private(client, "socketLock").Addr().Interface().(*sync.RWMutex)
	lock.RLock()
	defer lock.RUnlock()
	sealed := private(client, "socket").Interface().(*socket.NoiseSocket)
	if sealed == nil {
		return nil // it has ended already
	}
	handler := private(sealed, "onFrame").Addr().Interface().(*socket.FrameHandler)
	handle := *handler
	*handler = func(ctx context.Context, frame []byte) {
		d.contain(func() {
			frame, err := readable(frame)
			if err != nil {
				d.log.write(levelWarning, "a frame that cannot be read is passed over", "problem", err.Error())
				return
			}
			d.unhandled.wait(d.ctx)
			handle(ctx, frame)
		})
	}
	return nil
}

// private is a field of the library's that it keeps to itself.
func private(of any, name string) reflect.Value {
	field := reflect.ValueOf(of).Elem().FieldByName(name)
	return reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
}
