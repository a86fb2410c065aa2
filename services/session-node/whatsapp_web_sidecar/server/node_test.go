package server_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/server"
)

// patience is how long anything may take on a machine that has much else to do.
const patience = 60 * time.Second

// network is a running test network, a program of its own.
type network struct {
	simulatorv1.SimulatorServiceClient
	t             *testing.T
	address, root string
}

func startNetwork(t *testing.T) *network {
	t.Helper()
	program := os.Getenv("MESH_WHATSAPP_WEB_NETWORK")
	if program == "" {
		program, _ = filepath.Abs("../../../../.venv/bin/whatsapp-web-network")
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("the test network is not built")
	}
	process := exec.Command(program, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0")
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	var ready struct {
		Network string `json:"network"`
		GRPC    string `json:"grpc"`
		Root    string `json:"root_key"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &ready) != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return &network{simulatorv1.NewSimulatorServiceClient(dial(t, ready.GRPC)), t, ready.Network, ready.Root}
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = channel.Close() })
	return channel
}

func (n *network) person(phone, name string) string {
	n.t.Helper()
	if _, err := n.CreateNetworkAccount(n.t.Context(), &simulatorv1.CreateNetworkAccountRequest{Phone: phone, PushName: name}); err != nil {
		n.t.Fatal(err)
	}
	return phone
}

// nobody takes a number off the network.
func (n *network) nobody(phone string) {
	n.t.Helper()
	if _, err := n.SetNetwork(n.t.Context(), &simulatorv1.SetNetworkRequest{UnregisteredPhones: []string{phone}}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) write(account, sender, text string) string {
	n.t.Helper()
	written, err := n.InjectMessage(n.t.Context(), &simulatorv1.InjectMessageRequest{
		Phone: account, Sender: "phone:" + sender, Content: &simulatorv1.InjectMessageRequest_Text{Text: text},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return written.GetNetworkMessageId()
}

func (n *network) say(account, sender string, content *simnetv1.Content) string {
	n.t.Helper()
	encoded, err := proto.Marshal(content)
	if err != nil {
		n.t.Fatal(err)
	}
	written, err := n.InjectMessage(n.t.Context(), &simulatorv1.InjectMessageRequest{
		Phone: account, Sender: "phone:" + sender, Content: &simulatorv1.InjectMessageRequest_Encoded{Encoded: encoded},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return written.GetNetworkMessageId()
}

// put stores a file that people may write with.
func (n *network) put(file []byte) string {
	n.t.Helper()
	stored, err := n.PutNetworkBlob(n.t.Context(), &simulatorv1.PutNetworkBlobRequest{Data: file})
	if err != nil {
		n.t.Fatal(err)
	}
	return stored.GetRef()
}

// node is a session-node: the other end of the sidecar's stream, with its accounts' rows.
type node struct {
	t          *testing.T
	connection net.Conn

	sending sync.Mutex
	mu      sync.Mutex
	last    uint64
	links   map[uint64]*link

	// Of connections from now on.
	proxy string
	// Where the proxy is, whatever its URL says.
	proxyAddress string
	noPast       bool
}

// startNode starts a sidecar, and a node that speaks to it.
func startNode(t *testing.T, n *network) *node {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(theirs) }()
	t.Cleanup(func() {
		_ = ours.Close()
		if err := <-ended; err != nil && !errors.Is(err, io.ErrClosedPipe) { // what it was saying
			t.Error(err)
		}
	})
	root, err := hex.DecodeString(n.root)
	if err != nil {
		t.Fatal(err)
	}
	s := &node{t: t, connection: ours, links: map[uint64]*link{}}
	s.tell(&internalv1.RunRequest{Request: &internalv1.RunRequest_Start{Start: &internalv1.StartSidecar{
		Protocol: 1, DeviceName: "Sessionmesh", TestNetwork: n.address, TestRoot: root,
	}}})
	if first, err := s.recv(); err != nil || first.GetStarted().GetProtocol() != 1 {
		t.Fatal(first, err)
	}
	go s.read()
	return s
}

func (s *node) tell(request *internalv1.RunRequest) {
	s.sending.Lock()
	defer s.sending.Unlock()
	encoded, err := proto.Marshal(request)
	if err != nil {
		s.t.Error(err)
		return
	}
	_, _ = s.connection.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(encoded))), encoded...))
}

func (s *node) recv() (*internalv1.RunResponse, error) {
	var length [4]byte
	if _, err := io.ReadFull(s.connection, length[:]); err != nil {
		return nil, err
	}
	encoded := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(s.connection, encoded); err != nil {
		return nil, err
	}
	response := &internalv1.RunResponse{}
	return response, proto.Unmarshal(encoded, response)
}

func (s *node) read() {
	for {
		response, err := s.recv()
		if err != nil {
			return
		}
		s.mu.Lock()
		l := s.links[response.GetConnection()]
		s.mu.Unlock()
		if l != nil {
			l.hear(response)
		}
	}
}

// link is one connection of an account, and its rows. hold: incoming messages are not stored.
type link struct {
	*node
	number uint64
	heard  chan *internalv1.RunResponse
	passed map[string]*internalv1.MessageReceipt // by ids of messages

	rowsMu sync.Mutex
	rows   map[string][]byte
	put    map[string]bool // every row that was ever stored
	writes int             // but for those about settings, which are read beside all else
	reads  int             // questions for rows
	hold   bool
	refuse bool
	// dying: rows are stored, and nobody is told.
	dying bool
	// noting: notices are stored as they come.
	noting bool
}

func (s *node) link(rows map[string][]byte) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	l := &link{
		node: s, number: s.last, heard: make(chan *internalv1.RunResponse, 4096), rows: rows, put: map[string]bool{},
		passed: map[string]*internalv1.MessageReceipt{},
	}
	s.links[l.number] = l
	return l
}

func (l *link) hear(response *internalv1.RunResponse) {
	l.rowsMu.Lock()
	defer l.rowsMu.Unlock()
	switch said := response.GetResponse().(type) {
	case *internalv1.RunResponse_ReadRows:
		l.reads++
		read := &internalv1.RowsRead{Sequence: said.ReadRows.GetSequence()}
		for key, value := range l.rows {
			if slices.Contains(said.ReadRows.GetKeys(), key) ||
				slices.ContainsFunc(said.ReadRows.GetPrefixes(), func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
				read.Rows = append(read.Rows, &internalv1.StateRow{Key: key, Value: value})
			}
		}
		l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_RowsRead{RowsRead: read}})
	case *internalv1.RunResponse_ReadMessage:
		read := &internalv1.MessageRead{Sequence: said.ReadMessage.GetSequence()}
		if sent, is := sentMessages.Load(said.ReadMessage.GetNetworkMessageId()); is {
			message := sent.(*internalv1.SendDeviceMessage)
			read.Recipient, read.Message = message.GetRecipient(), message.GetMessage()
		}
		l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_MessageRead{MessageRead: read}})
	case *internalv1.RunResponse_WriteRows:
		if !slices.ContainsFunc(said.WriteRows.GetChanges(), ofSettings) {
			l.writes++
		}
		l.store(said.WriteRows.GetChanges())
		if !l.dying {
			l.settle(said.WriteRows.GetSequence())
		}
	case *internalv1.RunResponse_Incoming:
		if !l.hold {
			if !l.refuse {
				l.store(said.Incoming.GetChanges())
			}
			l.settle(said.Incoming.GetSequence())
		}
		l.heard <- response
	case *internalv1.RunResponse_Notice:
		if l.noting {
			l.noted(said.Notice.GetSequence())
		}
		l.heard <- response
	default:
		l.heard <- response
	}
}

func ofSettings(change *internalv1.StateRowChange) bool {
	return strings.HasPrefix(change.GetKey(), "login/settings-open/")
}

func (l *link) noted(sequence uint64) {
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_NoticeStored{NoticeStored: &internalv1.NoticeStored{Sequence: sequence}}})
}

func (l *link) store(changes []*internalv1.StateRowChange) {
	for _, change := range changes {
		if delete(l.rows, change.GetKey()); change.Value != nil {
			l.rows[change.GetKey()], l.put[change.GetKey()] = change.GetValue(), true
		}
	}
}

func (l *link) settle(sequence uint64) {
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_RowsSettled{RowsSettled: &internalv1.RowsSettled{
		Sequence: sequence, Stored: !l.refuse,
	}}})
}

func (l *link) ask(request *internalv1.RunRequest) {
	request.Connection = l.number
	l.tell(request)
}

// stored is what the next owner finds.
func (l *link) stored() map[string][]byte {
	l.rowsMu.Lock()
	defer l.rowsMu.Unlock()
	return maps.Clone(l.rows)
}

func (l *link) everWritten(key string) bool {
	l.rowsMu.Lock()
	defer l.rowsMu.Unlock()
	return l.put[key]
}

func (l *link) with(change func()) {
	l.rowsMu.Lock()
	defer l.rowsMu.Unlock()
	change()
}

// until returns what is wanted of the next responses, passing others over; receipts of these are remembered, as one may be said
// before the acknowledgement of its message is.
func until[T any](l *link, wanted func(*internalv1.RunResponse) (T, bool)) T {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case response := <-l.heard:
			if found, is := wanted(response); is {
				return found
			}
			for _, id := range response.GetReceipt().GetNetworkMessageIds() {
				l.passed[id] = response.GetReceipt()
			}
			if ended := response.GetEnded(); ended != nil {
				l.t.Fatalf("it ended: %v", ended)
			}
			if rejected := response.GetRejected(); rejected != nil {
				l.t.Fatalf("rejected: %v", rejected)
			}
		case <-timeout:
			l.t.Fatal("it does not come")
		}
	}
}

func (l *link) pair(phone string) {
	l.t.Helper()
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Pair{Pair: &internalv1.PairDevice{
		AccountId: "acc_1", Phone: phone, Timeout: durationpb.New(patience), Proxy: l.proxy, ProxyAddress: l.proxyAddress,
	}}})
}

func incoming(r *internalv1.RunResponse) (*internalv1.IncomingMessage, bool) {
	return r.GetIncoming(), r.GetIncoming() != nil
}

func ended(r *internalv1.RunResponse) (*internalv1.DeviceEnded, bool) {
	return r.GetEnded(), r.GetEnded() != nil
}

func (l *link) acked(id string) *internalv1.MessageAcked {
	l.t.Helper()
	return until(l, func(r *internalv1.RunResponse) (*internalv1.MessageAcked, bool) {
		return r.GetAcked(), r.GetAcked().GetNetworkMessageId() == id
	})
}

func (l *link) receipt(id string) *internalv1.MessageReceipt {
	l.t.Helper()
	if passed := l.passed[id]; passed != nil {
		delete(l.passed, id)
		return passed
	}
	return until(l, func(r *internalv1.RunResponse) (*internalv1.MessageReceipt, bool) {
		return r.GetReceipt(), slices.Contains(r.GetReceipt().GetNetworkMessageIds(), id)
	})
}

// paired links a device to an account of the network.
func (s *node) paired(n *network, phone string) map[string][]byte {
	s.t.Helper()
	l := s.link(map[string][]byte{})
	l.pair("")
	qr := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	if _, err := n.AcceptPairing(s.t.Context(), &simulatorv1.AcceptPairingRequest{
		Shown: &simulatorv1.AcceptPairingRequest_Qr{Qr: qr}, Phone: phone,
	}); err != nil {
		s.t.Fatal(err)
	}
	until(l, func(r *internalv1.RunResponse) (*internalv1.DevicePaired, bool) {
		return r.GetPaired(), r.GetPaired() != nil
	})
	until(l, ended)
	return l.stored()
}

// open logs an account in.
func (s *node) open(rows map[string][]byte) *link {
	s.t.Helper()
	l := s.link(maps.Clone(rows))
	l.reopen()
	var early []*internalv1.RunResponse // what waited for the account may come before the login is told of
	until(l, func(r *internalv1.RunResponse) (bool, bool) {
		if r.GetConnected() == nil {
			early = append(early, r)
		}
		return true, r.GetConnected() != nil
	})
	for _, response := range early {
		l.heard <- response
	}
	return l
}

func (l *link) reopen() {
	open := &internalv1.OpenDevice{AccountId: "acc_1", WithHistory: !l.noPast, Proxy: l.proxy, ProxyAddress: l.proxyAddress}
	for key, value := range l.stored() {
		if strings.HasPrefix(key, "login/") {
			open.Rows = append(open.Rows, &internalv1.StateRow{Key: key, Value: value})
		}
	}
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Open{Open: open}})
}

func (l *link) close() {
	l.t.Helper()
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Close{Close: &internalv1.CloseConnection{}}})
	timeout := time.After(patience)
	for {
		select {
		case response := <-l.heard:
			if response.GetClosed() != nil {
				return
			}
		case <-timeout:
			l.t.Fatal("it is not closed")
		}
	}
}

var (
	ids   int
	idsMu sync.Mutex

	sentMessages sync.Map // what accounts have sent, by the network's ids: every node has it stored
)

func newID() string {
	idsMu.Lock()
	defer idsMu.Unlock()
	ids++
	return fmt.Sprintf("3EB0%032X", ids)
}

func (l *link) send(to string, message *internalv1.DeviceMessage) string {
	l.t.Helper()
	id := newID()
	sent := &internalv1.SendDeviceMessage{NetworkMessageId: id, Recipient: to, Message: encoded(l.t, message)}
	sentMessages.Store(id, sent)
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Send{Send: sent}})
	return id
}

func encoded(t *testing.T, message proto.Message) []byte {
	t.Helper()
	encoded, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func saying(content *sessionmeshv1.Content) *internalv1.DeviceMessage {
	return &internalv1.DeviceMessage{Request: &sessionmeshv1.SendMessageRequest{Content: content}}
}

func text(said string) *internalv1.DeviceMessage {
	return saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: said}}})
}
