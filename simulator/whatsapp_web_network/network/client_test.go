package network_test

import (
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

const (
	alice = "+491510000001"
	bob   = "+491510000002"
	carol = "+491510000003"
)

// patience is how long something may take on a machine that has much else to do.
const patience = 60 * time.Second

func start(t *testing.T) *network.Network {
	t.Helper()
	root := keys.NewKeyPair()
	n, err := network.Start("127.0.0.1:0", root)
	if err != nil {
		t.Fatal(err)
	}
	whatsmeow.WACertPubKey = *root.Pub
	t.Cleanup(n.Close)
	return n
}

// linked is a real client.
type linked struct {
	*whatsmeow.Client
	t      *testing.T
	store  *memory
	events chan any
	passed []any
}

func client(t *testing.T, n *network.Network, device *store.Device) *linked {
	t.Helper()
	c := &linked{
		Client: whatsmeow.NewClient(device, logger()), t: t, store: device.LIDs.(*memory), events: make(chan any, 10_000),
	}
	c.EnableAutoReconnect = false
	c.EnableDecryptedEventBuffer = true
	c.SetForceActiveDeliveryReceipts(true)
	transport := &http.Client{Transport: redirected(n.Address)}
	c.SetWebsocketHTTPClient(transport)
	c.SetPreLoginHTTPClient(transport)
	c.SetMediaHTTPClient(transport)
	c.AddEventHandler(func(event any) { c.events <- event })
	t.Cleanup(c.Disconnect)
	return c
}

type redirected string

func (to redirected) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "http", string(to), string(to)
	return http.DefaultTransport.RoundTrip(r)
}

// next waits for an event of a kind that passes a check; all others are kept for later.
func next[E any](c *linked, check func(E) bool) E {
	c.t.Helper()
	for i, event := range c.passed {
		if found, ok := event.(E); ok && (check == nil || check(found)) {
			c.passed = append(c.passed[:i:i], c.passed[i+1:]...)
			return found
		}
	}
	deadline := time.After(patience)
	for {
		select {
		case event := <-c.events:
			if found, ok := event.(E); ok && (check == nil || check(found)) {
				return found
			}
			c.passed = append(c.passed, event)
		case <-deadline:
			var wanted E
			c.t.Fatalf("no %T came", wanted)
		}
	}
}

func (c *linked) connect() {
	c.t.Helper()
	if err := c.Connect(); err != nil {
		c.t.Fatal(err)
	}
}

// paired is a client that is linked by QR and logged in.
func paired(t *testing.T, n *network.Network, phone string) *linked {
	t.Helper()
	c := client(t, n, newDevice())
	c.connect()
	code := next[*events.QR](c, nil)
	if _, err := n.AcceptQR(code.Codes[0], phone); err != nil {
		t.Fatal(err)
	}
	next[*events.Connected](c, nil)
	return c
}

func (c *linked) say(to string, message *waE2E.Message, extra ...whatsmeow.SendRequestExtra) (string, error) {
	jid := types.NewJID(to[1:], types.DefaultUserServer)
	return c.sayTo(jid, message, extra...)
}

func (c *linked) sayTo(jid types.JID, message *waE2E.Message, extra ...whatsmeow.SendRequestExtra) (string, error) {
	ctx := context.WithValue(context.Background(), sending{}, true)
	sent, err := c.SendMessage(ctx, jid, message, extra...)
	return sent.ID, err
}

func (c *linked) mustSay(to, words string) string {
	c.t.Helper()
	id, err := c.say(to, said(words))
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func said(words string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(words)} }

func words(m *events.Message) string {
	if text := m.Message.GetConversation(); text != "" {
		return text
	}
	return m.Message.GetExtendedTextMessage().GetText()
}

func saying(text string) func(*events.Message) bool {
	return func(m *events.Message) bool { return words(m) == text }
}

func write(t *testing.T, n *network.Network, to, from, text string) string {
	t.Helper()
	return inject(t, n, network.Writing{Account: n.Account(to), Sender: "phone:" + from, Content: textContent(text)})
}

func inject(t *testing.T, n *network.Network, w network.Writing) string {
	t.Helper()
	id, err := n.Say(w)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func textContent(text string) *simnetv1.Content {
	return &simnetv1.Content{Kind: &simnetv1.Content_Text{Text: text}}
}

func fault(n *network.Network, kind simulatorv1.FaultKind, phone string) *network.Fault {
	f := &network.Fault{Kind: kind}
	if phone != "" {
		f.Account = n.Account(phone)
	}
	return f
}

func count(n *network.Network, kind simulatorv1.LedgerKind) int { return int(n.Ledger.Count(kind)) }

// until waits for a condition that nobody tells of.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// logger shows what the library says when somebody looks for a fault: WHATSMEOW_LOG=DEBUG.
func logger() waLog.Logger {
	if level := os.Getenv("WHATSMEOW_LOG"); level != "" {
		return waLog.Stdout("client", level, false)
	}
	return waLog.Noop
}
