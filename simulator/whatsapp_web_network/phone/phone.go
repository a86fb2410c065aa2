// Package phone is the phone of a person: the end of real Signal sessions, so that what clients encrypt is decrypted by
// somebody, and what they decrypt was encrypted for them.
package phone

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// ErrNoSession says that the phone must have a device's keys before it can write to it.
var ErrNoSession = errors.New("the phone has no session with the device")

var errUnreadable = errors.New("the message cannot be decrypted")

// Phone keeps a person's keys and sessions. It may be used by several goroutines.
type Phone struct {
	identity     *keys.KeyPair
	signed       *keys.PreKey
	registration uint32

	mu         sync.Mutex
	sessions   map[string][]byte
	senderKeys map[string][]byte
}

// New makes a phone whose identity is the key of the person's account.
func New(account *keys.KeyPair) *Phone {
	return &Phone{
		identity:     account,
		signed:       account.CreateSignedPreKey(1),
		registration: rand.Uint32N(16380) + 1,
		sessions:     map[string][]byte{},
		senderKeys:   map[string][]byte{},
	}
}

// Identity is the public key that the phone's messages are signed with.
func (p *Phone) Identity() []byte { return p.identity.Pub[:] }

// Meet begins a session with a device anew, from its keys as the network or the device itself gave them.
func (p *Phone) Meet(device types.JID, keys waBinary.Node) error {
	bundle, err := parseBundle(device.Device, keys)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.builder(device).ProcessBundle(context.Background(), bundle)
}

// Encrypt returns the kind of message, `pkmsg` or `msg`, and its bytes. Raises ErrNoSession.
func (p *Phone) Encrypt(device types.JID, plain []byte) (string, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sessions[device.SignalAddress().String()]; !ok {
		return "", nil, ErrNoSession
	}
	cipher := session.NewCipher(p.builder(device), device.SignalAddress())
	message, err := cipher.Encrypt(context.Background(), pad(plain))
	if err != nil {
		return "", nil, err
	}
	if message.Type() == protocol.PREKEY_TYPE {
		return "pkmsg", message.Serialize(), nil
	}
	return "msg", message.Serialize(), nil
}

// Decrypt reads a message of a device; kind is `pkmsg` or `msg`.
func (p *Phone) Decrypt(device types.JID, kind string, sealed []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cipher := session.NewCipher(p.builder(device), device.SignalAddress())
	ctx := context.Background()
	if kind == "pkmsg" {
		message, err := protocol.NewPreKeySignalMessageFromBytes(
			sealed, serializer.PreKeySignalMessage, serializer.SignalMessage,
		)
		if err != nil {
			return nil, err
		}
		plain, err := cipher.DecryptMessage(ctx, message)
		if err != nil {
			return nil, err
		}
		return unpad(plain)
	}
	message, err := protocol.NewSignalMessageFromBytes(sealed, serializer.SignalMessage)
	if err != nil {
		return nil, err
	}
	plain, err := cipher.Decrypt(ctx, message)
	if err != nil {
		return nil, err
	}
	return unpad(plain)
}

// EncryptForGroup returns a message that every member reads who has the sender key, and that key for those who have not.
func (p *Phone) EncryptForGroup(group string, own types.JID, plain []byte) (sealed, distribution []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, name := context.Background(), protocol.NewSenderKeyName(group, own.SignalAddress())
	builder := groups.NewGroupSessionBuilder(signalStore{p}, serializer)
	key, err := builder.Create(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	message, err := groups.NewGroupCipher(builder, name, signalStore{p}).Encrypt(ctx, pad(plain))
	if err != nil {
		return nil, nil, err
	}
	return message.SignedSerialize(), key.Serialize(), nil
}

// LearnSenderKey keeps the key that a device gave for its messages to a group.
func (p *Phone) LearnSenderKey(group string, device types.JID, distribution []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	message, err := protocol.NewSenderKeyDistributionMessageFromBytes(
		distribution, serializer.SenderKeyDistributionMessage,
	)
	if err != nil {
		return err
	}
	name := protocol.NewSenderKeyName(group, device.SignalAddress())
	return groups.NewGroupSessionBuilder(signalStore{p}, serializer).Process(context.Background(), name, message)
}

// DecryptFromGroup reads what a device wrote to a group.
func (p *Phone) DecryptFromGroup(group string, device types.JID, sealed []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	message, err := protocol.NewSenderKeyMessageFromBytes(sealed, serializer.SenderKeyMessage)
	if err != nil {
		return nil, err
	}
	name := protocol.NewSenderKeyName(group, device.SignalAddress())
	builder := groups.NewGroupSessionBuilder(signalStore{p}, serializer)
	plain, err := groups.NewGroupCipher(builder, name, signalStore{p}).Decrypt(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return unpad(plain)
}

func (p *Phone) builder(device types.JID) *session.Builder {
	return session.NewBuilderFromSignal(signalStore{p}, device.SignalAddress(), serializer)
}

// pad hides a message's length: 1 to 16 bytes, each saying how many.
func pad(plain []byte) []byte {
	count := rand.IntN(16) + 1
	return append(bytes.Clone(plain), bytes.Repeat([]byte{byte(count)}, count)...)
}

func unpad(padded []byte) ([]byte, error) {
	if len(padded) == 0 || int(padded[len(padded)-1]) > len(padded) {
		return nil, errUnreadable
	}
	return padded[:len(padded)-int(padded[len(padded)-1])], nil
}
