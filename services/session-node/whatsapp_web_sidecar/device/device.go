// Package device runs linked devices: each is one client of the library, whose state is in rows that the node stores.
package device

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// An Out takes what devices say to the node. It waits for a node that reads slowly, and returns false once the stream has
// ended.
type Out func(*internalv1.RunResponse) bool

// settleTimeout is how long a message may take to be stored. The network offers it again after the next login.
const settleTimeout = 60 * time.Second

// A Device is one connection of an account, from Open or Pair to its end.
type Device struct {
	number    uint64
	accountID string
	out       Out
	network   *Network
	store     *rows.Store
	client    *whatsmeow.Client
	reader    content.Reader
	line      line
	log       *logger
	history   bool
	pairing   *pairing
	// With which the network refused the login.
	refusal atomic.Pointer[waBinary.Node]
	// With which it last refused a message.
	nack atomic.Pointer[waBinary.Node]

	ctx    context.Context
	cancel context.CancelFunc

	// Over the order of what is said: it is as the sequences are.
	saying sync.Mutex
	ended  bool

	mu          sync.Mutex
	sequence    uint64
	settling    map[uint64]chan bool
	reading     map[uint64]chan *internalv1.RowsRead
	recalling   map[uint64]chan *internalv1.MessageRead
	questions   chan struct{}
	queue       queue
	receipts    receipts
	calls       chan struct{}
	pinging     bool
	retries     map[string]chan *mediaRetry
	remembering bool

	// When the message that is being handled came, in nanoseconds since the epoch.
	came atomic.Int64
}

func newDevice(number uint64, accountID string, network *Network, out Out) *Device {
	d := &Device{
		number: number, accountID: accountID, out: out, network: network, calls: make(chan struct{}, maxCalls),
		settling: map[uint64]chan bool{}, reading: map[uint64]chan *internalv1.RowsRead{},
		recalling: map[uint64]chan *internalv1.MessageRead{}, questions: make(chan struct{}, maxQuestions),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.line.goOn = sync.NewCond(&d.line.mu)
	d.log = newLogger(d)
	return d
}

// Open connects a paired device and logs it in.
func Open(number uint64, request *internalv1.OpenDevice, network *Network, out Out) *Device {
	d := newDevice(number, request.GetAccountId(), network, out)
	d.history = request.GetWithHistory()
	d.store = rows.New(d.accountID, d)
	go d.contain(func() { d.open(request) })
	return d
}

func (d *Device) open(request *internalv1.OpenDevice) {
	if len(request.GetRows()) > 0 {
		login := make(map[string][]byte, len(request.GetRows()))
		for _, row := range request.GetRows() {
			login[row.GetKey()] = row.GetValue()
		}
		d.store.Prefill(login)
	}
	loaded, err := d.store.LoadDevice(d.ctx)
	if err != nil {
		end := internalv1.DeviceEnd_DEVICE_END_LOST
		if errors.Is(err, rows.ErrUnusable) {
			end = internalv1.DeviceEnd_DEVICE_END_STATE_UNUSABLE
		}
		d.end(end, err.Error(), 0)
		return
	}
	if err := d.store.Expire(d.ctx); err != nil {
		d.end(internalv1.DeviceEnd_DEVICE_END_LOST, err.Error(), 0)
		return
	}
	d.reader = content.Reader{Own: loaded.GetJID(), OwnHidden: loaded.GetLID(), Phone: func(jid types.JID) string { return d.addressOf(jid, types.EmptyJID) }}
	loaded.EventBuffer = sentBefore{d.store, d}
	d.use(whatsmeow.NewClient(loaded, d.log))
	if err := d.connect(request.GetProxy()); err != nil {
		d.end(internalv1.DeviceEnd_DEVICE_END_LOST, err.Error(), 0)
		return
	}
	select {
	case <-d.store.Failed(): // what is in memory is not what is stored
		d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "its state cannot be stored", 0)
	case <-d.ctx.Done():
	}
}

func (d *Device) use(client *whatsmeow.Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.client = client
}

// loggedIn is the client once it has logged in, for what the node asks; nil before.
func (d *Device) loggedIn() *whatsmeow.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil || !d.client.IsLoggedIn() {
		return nil
	}
	return d.client
}

func (d *Device) connect(proxy string) error {
	client := d.client
	client.EnableAutoReconnect = false // the session's state machine connects again
	client.DisableLoginAutoReconnect = true
	client.SynchronousAck = true
	client.EnableDecryptedEventBuffer = true
	client.UseRetryMessageStore = true
	client.ManualHistorySyncDownload = true
	client.AutomaticMessageRerequestFromPhone = true
	client.SetForceActiveDeliveryReceipts(true)
	client.SetMaxParallelRetryReceiptHandling(1)
	client.BackgroundEventCtx = d.ctx
	client.AddEventHandlerWithSuccessStatus(d.handleContained)
	connection, files, err := d.network.clients(&d.line, proxy)
	if err != nil {
		return err
	}
	client.SetWebsocketHTTPClient(connection)
	client.SetPreLoginHTTPClient(connection)
	client.SetMediaHTTPClient(files)
	d.containStanzas(client)
	return d.connectContained(client)
}

// say tells the node something of the connection; nothing once it has ended.
func (d *Device) say(response *internalv1.RunResponse) bool {
	d.saying.Lock()
	defer d.saying.Unlock()
	return d.sayLocked(response)
}

func (d *Device) sayLocked(response *internalv1.RunResponse) bool {
	if d.ended {
		return false
	}
	response.Connection = d.number
	return d.out(response)
}

// end says why the connection has ended, once, and lets go of it.
func (d *Device) end(why internalv1.DeviceEnd, detail string, retryAfter time.Duration) {
	ended := &internalv1.DeviceEnded{End: why, Detail: detail}
	if retryAfter > 0 {
		ended.RetryAfter = durationpb.New(retryAfter)
	}
	d.shut()
	d.saying.Lock()
	defer d.saying.Unlock()
	d.sayLocked(&internalv1.RunResponse{Response: &internalv1.RunResponse_Ended{Ended: ended}})
	d.ended = true
}

// shut lets nothing leave any more.
func (d *Device) shut() {
	d.cancel()
	d.line.shut()
	d.store.Close()
}

// Close ends the connection at the node's wish: once it returns nothing leaves, and nothing more is said of it but that.
func (d *Device) Close() {
	d.shut()
	go func() {
		d.saying.Lock()
		defer d.saying.Unlock()
		d.ended = true
		d.out(&internalv1.RunResponse{Connection: d.number, Response: &internalv1.RunResponse_Closed{Closed: &internalv1.ConnectionClosed{}}})
	}()
}

// --- who people are

// both are a person's ids by number and hidden, as far as either is known.
func (d *Device) both(jid, other types.JID) (number, hidden types.JID) {
	for _, id := range []types.JID{jid, other} {
		switch id.Server {
		case types.DefaultUserServer, types.HostedServer, types.LegacyUserServer:
			number = types.NewJID(id.User, types.DefaultUserServer)
		case types.HiddenUserServer, types.HostedLIDServer:
			hidden = types.NewJID(id.User, types.HiddenUserServer)
		}
	}
	if number.IsEmpty() && !hidden.IsEmpty() {
		number, _ = d.store.GetPNForLID(d.ctx, hidden)
	} else if hidden.IsEmpty() && !number.IsEmpty() {
		hidden, _ = d.store.GetLIDForPN(d.ctx, number)
	}
	return number, hidden
}

// addressOf is the address of a person or a chat: by number where that is known.
func (d *Device) addressOf(jid, other types.JID) string {
	if !address.IsPerson(jid) {
		return address.Of(jid)
	}
	number, hidden := d.both(jid, other)
	if named := address.Of(number); named != "" {
		return named
	}
	if named := address.Of(hidden); named != "" {
		return named
	}
	return address.Of(jid)
}

func (d *Device) identityOf(jid, other types.JID, name string) *internalv1.DeviceIdentity {
	number, hidden := d.both(jid, other)
	identity := &internalv1.DeviceIdentity{UserId: number.User, HiddenId: hidden.User, PushName: name}
	if number.User != "" {
		identity.Phone = "+" + number.User
	}
	return identity
}

func (d *Device) ownIdentity() *internalv1.DeviceIdentity {
	return d.identityOf(d.client.Store.GetJID(), d.client.Store.GetLID(), d.client.Store.PushName)
}
