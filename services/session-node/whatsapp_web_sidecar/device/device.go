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
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// An Out takes what devices say to the node. It waits for a node that reads slowly, and returns false once the stream has
// ended.
type Out func(*internalv1.RunResponse) bool

// maxQuestions is how many questions to the node one device has open; the node takes twice as many of one.
const maxQuestions = 32

// settleTimeout is how long a message may take to be stored. The network offers it again after the next login.
const settleTimeout = 60 * time.Second

// A Device is one connection of an account, from Open or Pair to its end.
type Device struct {
	// Held while what the account's devices have in common is changed.
	sharing sync.Mutex
	// Held while that is read.
	catching  sync.Mutex
	misfits   misfits
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
	nacks   nacks

	ctx    context.Context
	cancel context.CancelFunc

	// Over the order of what is said: it is as the sequences are.
	saying sync.Mutex
	ended  bool

	mu          sync.Mutex
	sequence    uint64
	settling    map[uint64]chan bool
	asking      chan struct{}
	reading     map[uint64]chan *internalv1.RowsRead
	recalling   map[uint64]chan *internalv1.MessageRead
	queue       queue
	receipts    receipts
	members     memberReceipts
	notices     notices
	resending   aside
	askingAgain aside
	unhandled   unhandled
	posts       posts
	past        past
	beside      chan struct{}
	calls       chan struct{}
	pinging     bool
	ending      bool
	retries     map[string]chan *mediaRetry
	remembering bool

	// The notification of a group that is being handled.
	group atomic.Pointer[waBinary.Node]
	// When the message that is being handled came, in nanoseconds since the epoch.
	came atomic.Int64
	// Groups that name their members by number, as they last did.
	numbered sync.Map
	// The account shows as online.
	online atomic.Bool
}

func newDevice(number uint64, accountID string, network *Network, out Out) *Device {
	d := &Device{
		number: number, accountID: accountID, out: out, network: network, calls: make(chan struct{}, maxCalls),
		settling: map[uint64]chan bool{}, asking: make(chan struct{}, maxQuestions), reading: map[uint64]chan *internalv1.RowsRead{},
		recalling: map[uint64]chan *internalv1.MessageRead{}, beside: make(chan struct{}, maxBeside),
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
	if err := d.connect(request); err != nil {
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

func (d *Device) connect(request proxied) error {
	client := d.client
	client.EnableAutoReconnect = false // the session's state machine connects again
	client.DisableLoginAutoReconnect = true
	client.SynchronousAck = true
	client.EnableDecryptedEventBuffer = true
	client.UseRetryMessageStore = true
	client.EmitAppStateEventsOnFullSync = true // the first of what the devices have in common is told, too
	client.ManualHistorySyncDownload = true
	client.AutomaticMessageRerequestFromPhone = true
	client.SetForceActiveDeliveryReceipts(true)
	client.SetMaxParallelRetryReceiptHandling(1)
	client.BackgroundEventCtx = d.ctx
	client.AddEventHandlerWithSuccessStatus(d.handleContained)
	connection, files, err := d.network.clients(&d.line, request.GetProxy(), request.GetProxyAddress())
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
	d.mu.Lock()
	known := d.ending
	d.ending = true
	d.mu.Unlock()
	if known { // of which this is a consequence
		return
	}
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

// Fail ends the connection, for a reason of this side.
func (d *Device) Fail(why string) { d.end(internalv1.DeviceEnd_DEVICE_END_LOST, why, 0) }

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

// --- the rows of the device, as package rows wants them

// Read asks the node for rows.
func (d *Device) Read(ctx context.Context, keys, prefixes []string) (map[string][]byte, error) {
	read, err := question(ctx, d, d.reading, func(sequence uint64) *internalv1.RunResponse {
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_ReadRows{ReadRows: &internalv1.ReadRows{
			Sequence: sequence, Keys: keys, Prefixes: prefixes,
		}}}
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string][]byte, len(read.GetRows()))
	for _, row := range read.GetRows() {
		found[row.GetKey()] = row.GetValue()
	}
	return found, nil
}

// question asks the node for something that is stored, once it is its turn, and waits for the answer.
func question[Answer interface{ GetFailed() bool }](
	ctx context.Context, d *Device, waiting map[uint64]chan Answer, asked func(sequence uint64) *internalv1.RunResponse,
) (Answer, error) {
	var none Answer
	select {
	case d.asking <- struct{}{}:
	case <-ctx.Done():
		return none, rows.ErrNotStored
	case <-d.ctx.Done():
		return none, rows.ErrNotStored
	}
	defer func() { <-d.asking }()
	answer := make(chan Answer, 1)
	d.saying.Lock()
	d.mu.Lock()
	d.sequence++
	sequence := d.sequence
	waiting[sequence] = answer
	d.mu.Unlock()
	said := d.sayLocked(asked(sequence))
	d.saying.Unlock()
	if !said {
		return none, rows.ErrNotStored
	}
	select {
	case got := <-answer:
		if got.GetFailed() {
			return none, rows.ErrNotStored
		}
		return got, nil
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
	return none, rows.ErrNotStored
}

// Write hands rows to the node.
func (d *Device) Write(changes []rows.Change) <-chan bool {
	return d.settle(func(sequence uint64) *internalv1.RunResponse {
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_WriteRows{WriteRows: &internalv1.WriteRows{
			Sequence: sequence, Changes: changesOf(changes),
		}}}
	})
}

func (d *Device) settle(said func(sequence uint64) *internalv1.RunResponse) <-chan bool {
	answer := make(chan bool, 1)
	d.saying.Lock()
	defer d.saying.Unlock()
	d.mu.Lock()
	d.sequence++
	sequence := d.sequence
	d.settling[sequence] = answer
	d.mu.Unlock()
	if !d.sayLocked(said(sequence)) {
		answer <- false
	}
	return answer
}

// RowsRead is what the node answers to Read.
func (d *Device) RowsRead(read *internalv1.RowsRead) {
	answered(d, d.reading, read.GetSequence(), read)
}

func answered[Answer any](d *Device, waiting map[uint64]chan Answer, sequence uint64, got Answer) {
	d.mu.Lock()
	answer := waiting[sequence]
	delete(waiting, sequence)
	d.mu.Unlock()
	if answer != nil {
		answer <- got
	}
}

// RowsSettled is what the node answers to Write, and to a message.
func (d *Device) RowsSettled(settled *internalv1.RowsSettled) {
	answered(d, d.settling, settled.GetSequence(), settled.GetStored())
}

func changesOf(changes []rows.Change) []*internalv1.StateRowChange {
	out := make([]*internalv1.StateRowChange, len(changes))
	for i, change := range changes {
		out[i] = &internalv1.StateRowChange{Key: change.Key, Value: change.Value}
	}
	return out
}
