package rows

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/util/optional"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// table is a node's table of one account's rows. refuse: nothing is stored any more.
type table struct {
	mu     sync.Mutex
	rows   map[string][]byte
	writes int
	reads  int
	refuse bool
	// How long a commit takes.
	commit time.Duration
	queue  chan func()
}

func newTable(t *testing.T) *table {
	tab := &table{rows: map[string][]byte{}, queue: make(chan func(), 4096)}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case store := <-tab.queue:
				store()
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { close(done) })
	return tab
}

func (tab *table) Read(_ context.Context, keys, prefixes []string) (map[string][]byte, error) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.reads++
	found := map[string][]byte{}
	for key, value := range tab.rows {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			found[key] = value
		}
	}
	for _, key := range keys {
		if value, is := tab.rows[key]; is {
			found[key] = value
		}
	}
	return found, nil
}

func (tab *table) Write(changes []Change) <-chan bool {
	answer := make(chan bool, 1)
	tab.queue <- func() {
		if tab.commit > 0 {
			<-time.After(tab.commit)
		}
		tab.mu.Lock()
		defer tab.mu.Unlock()
		if tab.refuse {
			answer <- false
			return
		}
		tab.writes++
		for _, change := range changes {
			if delete(tab.rows, change.Key); change.Value != nil {
				tab.rows[change.Key] = change.Value
			}
		}
		answer <- true
	}
	return answer
}

func (tab *table) refuseAll() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.refuse = true
}

func (tab *table) count() int {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.writes
}

// stored is what a new owner finds.
func (tab *table) stored() map[string][]byte {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return maps.Clone(tab.rows)
}

// party is a device with its rows, without a network.
type party struct {
	*Store
	table  *table
	device *store.Device
	jid    types.JID
}

func newParty(t *testing.T, user string) *party {
	tab := newTable(t)
	p := &party{Store: New("acc_"+user, tab), table: tab, jid: types.JID{User: user, Server: types.HiddenUserServer, Device: 1}}
	p.device = p.NewDevice()
	p.device.ID, p.device.LID = &p.jid, p.jid
	t.Cleanup(p.Close)
	return p
}

// taken is the same device with another owner, who has what is stored.
func (p *party) taken(t *testing.T) *party {
	tab := newTable(t)
	tab.rows = p.table.stored()
	next := &party{Store: New(p.accountID, tab), table: tab, jid: p.jid}
	was := *p.device
	next.device = next.emptyDevice()
	next.device.ID, next.device.LID, next.device.RegistrationID = was.ID, was.LID, was.RegistrationID
	next.device.NoiseKey, next.device.IdentityKey, next.device.SignedPreKey = was.NoiseKey, was.IdentityKey, was.SignedPreKey
	t.Cleanup(next.Close)
	return next
}

// bundle is what the network gives of a device to whoever wants to write to it.
func (p *party) bundle(t *testing.T) *prekey.Bundle {
	t.Helper()
	one, err := p.GenOnePreKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signed := p.device.SignedPreKey
	return prekey.NewBundle(p.device.RegistrationID, uint32(p.jid.Device), optional.NewOptionalUint32(one.KeyID), signed.KeyID,
		ecc.NewDjbECPublicKey(*one.Pub), ecc.NewDjbECPublicKey(*signed.Pub), *signed.Signature,
		identity.NewKey(ecc.NewDjbECPublicKey(*p.device.IdentityKey.Pub)))
}

// wire is an encrypted message.
type wire struct {
	prekey bool
	bytes  []byte
}

// send encrypts as the library does in SendMessage; with a bundle it begins a session.
func (p *party) send(to *party, text string, bundle *prekey.Bundle) (wire, error) {
	return p.sendWith(to, text, bundle, func(context.Context) error { return nil })
}

// sendWith does something for the message first, as what is kept of it.
func (p *party) sendWith(to *party, text string, bundle *prekey.Bundle, first func(sending context.Context) error) (wire, error) {
	sending, done := p.Sending(context.Background())
	defer done()
	if err := first(sending); err != nil {
		return wire{}, err
	}
	address := to.jid.SignalAddress()
	_, sending, err := p.device.WithCachedSessions(sending, []string{address.String()})
	if err != nil {
		return wire{}, err
	}
	builder := session.NewBuilderFromSignal(p.device, address, serializer)
	if bundle != nil {
		if err := builder.ProcessBundle(sending, bundle); err != nil {
			return wire{}, err
		}
	}
	sealed, err := session.NewCipher(builder, address).Encrypt(sending, padded(text))
	if err != nil {
		return wire{}, err
	}
	if err := p.device.PutCachedSessions(sending); err != nil {
		return wire{}, err
	}
	return wire{sealed.Type() == protocol.PREKEY_TYPE, sealed.Serialize()}, nil
}

// open decrypts as the library does, up to the event.
func (p *party) open(from *party, message wire) (string, error) {
	address := from.jid.SignalAddress()
	cipher := session.NewCipher(session.NewBuilderFromSignal(p.device, address, serializer), address)
	var plain []byte
	err := p.DoDecryptionTxn(context.Background(), func(ctx context.Context) error {
		var err error
		if message.prekey {
			var parsed *protocol.PreKeySignalMessage
			if parsed, err = protocol.NewPreKeySignalMessageFromBytes(message.bytes, serializer.PreKeySignalMessage, serializer.SignalMessage); err == nil {
				plain, err = cipher.DecryptMessage(ctx, parsed)
			}
		} else {
			var parsed *protocol.SignalMessage
			if parsed, err = protocol.NewSignalMessageFromBytes(message.bytes, serializer.SignalMessage); err == nil {
				plain, err = cipher.Decrypt(ctx, parsed)
			}
		}
		if err != nil {
			return err
		}
		return p.PutBufferedEvent(ctx, [32]byte{}, plain, time.Now())
	})
	return text(plain), err
}

// receive is open, and stored.
func (p *party) receive(from *party, message wire) (string, error) {
	got, err := p.open(from, message)
	if err == nil && !p.Receive(false, p.table.Write) {
		err = ErrNotStored
	}
	return got, err
}

// exchange sends a message and has it received.
func exchange(t *testing.T, from, to *party, said string, bundle *prekey.Bundle) {
	t.Helper()
	message, err := from.send(to, said, bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := to.receive(from, message); err != nil || got != said {
		t.Fatalf("got %q (%v), want %q", got, err, said)
	}
}

// acquainted are two who have written to each other.
func acquainted(t *testing.T) (*party, *party) {
	t.Helper()
	anna, bert := newParty(t, "1001"), newParty(t, "1002")
	exchange(t, anna, bert, "hello", bert.bundle(t))
	exchange(t, bert, anna, "hello to you", nil)
	return anna, bert
}

func (p *party) sendToGroup(group, said string) ([]byte, []byte, error) {
	name := protocol.NewSenderKeyName(group, p.jid.SignalAddress())
	builder := groups.NewGroupSessionBuilder(p.device, serializer)
	key, err := builder.Create(context.Background(), name)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := groups.NewGroupCipher(builder, name, p.device).Encrypt(context.Background(), padded(said))
	if err != nil {
		return nil, nil, err
	}
	return key.Serialize(), sealed.SignedSerialize(), nil
}

func (p *party) learnKey(t *testing.T, group string, from *party, key []byte) {
	t.Helper()
	parsed, err := protocol.NewSenderKeyDistributionMessageFromBytes(key, serializer.SenderKeyDistributionMessage)
	if err != nil {
		t.Fatal(err)
	}
	name := protocol.NewSenderKeyName(group, from.jid.SignalAddress())
	if err := groups.NewGroupSessionBuilder(p.device, serializer).Process(t.Context(), name, parsed); err != nil {
		t.Fatal(err)
	}
}

func (p *party) receiveInGroup(group string, from *party, sealed []byte) (string, error) {
	name := protocol.NewSenderKeyName(group, from.jid.SignalAddress())
	cipher := groups.NewGroupCipher(groups.NewGroupSessionBuilder(p.device, serializer), name, p.device)
	parsed, err := protocol.NewSenderKeyMessageFromBytes(sealed, serializer.SenderKeyMessage)
	if err != nil {
		return "", err
	}
	var plain []byte
	if err := p.DoDecryptionTxn(context.Background(), func(ctx context.Context) error {
		if plain, err = cipher.Decrypt(ctx, parsed); err != nil {
			return err
		}
		return p.PutBufferedEvent(ctx, [32]byte{}, plain, time.Now())
	}); err != nil {
		return "", err
	}
	if !p.Receive(false, p.table.Write) {
		return "", ErrNotStored
	}
	return text(plain), nil
}

func padded(said string) []byte {
	encoded, err := proto.Marshal(&waE2E.Message{Conversation: &said})
	if err != nil {
		panic(err)
	}
	return append(encoded, bytes.Repeat([]byte{7}, 7)...)
}

func text(plain []byte) string {
	var message waE2E.Message
	if len(plain) < 7 || proto.Unmarshal(plain[:len(plain)-7], &message) != nil {
		return fmt.Sprintf("%x", plain)
	}
	return message.GetConversation()
}
