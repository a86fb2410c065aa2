package phone

import (
	"context"
	"errors"

	"go.mau.fi/libsignal/ecc"
	groupRecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/state/store"
)

var (
	serializer = serialize.NewProtoBufSerializer()
	errUnused  = errors.New("a phone of the network keeps no such thing")
)

// signalStore is a phone as the Signal library wants to see it. It trusts every identity: who a device is, the network knows.
type signalStore struct{ *Phone }

var _ store.SignalProtocol = signalStore{}

func (s signalStore) GetIdentityKeyPair() *identity.KeyPair {
	return identity.NewKeyPair(
		identity.NewKey(ecc.NewDjbECPublicKey(*s.identity.Pub)), ecc.NewDjbECPrivateKey(*s.identity.Priv),
	)
}

func (s signalStore) GetLocalRegistrationID() uint32 { return s.registration }

func (signalStore) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil
}

func (signalStore) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (s signalStore) LoadSession(_ context.Context, address *protocol.SignalAddress) (*record.Session, error) {
	stored, ok := s.sessions[address.String()]
	if !ok {
		return record.NewSession(serializer.Session, serializer.State), nil
	}
	return record.NewSessionFromBytes(stored, serializer.Session, serializer.State)
}

func (s signalStore) StoreSession(_ context.Context, address *protocol.SignalAddress, session *record.Session) error {
	key, stored := address.String(), session.Serialize()
	if len(session.PreviousSessionStates()) > 0 {
		stored = undamaged(s.sessions[key], stored)
	}
	s.sessions[key] = stored
	return nil
}

func (s signalStore) ContainsSession(_ context.Context, address *protocol.SignalAddress) (bool, error) {
	_, ok := s.sessions[address.String()]
	return ok, nil
}

func (s signalStore) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	if id != s.signed.KeyID {
		return nil, nil
	}
	pair := ecc.NewECKeyPair(ecc.NewDjbECPublicKey(*s.signed.Pub), ecc.NewDjbECPrivateKey(*s.signed.Priv))
	return record.NewSignedPreKey(id, 0, pair, *s.signed.Signature, nil), nil
}

func (s signalStore) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*groupRecord.SenderKey, error) {
	stored, ok := s.senderKeys[senderKey(name)]
	if !ok {
		return groupRecord.NewSenderKey(serializer.SenderKeyRecord, serializer.SenderKeyState), nil
	}
	return groupRecord.NewSenderKeyFromBytes(stored, serializer.SenderKeyRecord, serializer.SenderKeyState)
}

func (s signalStore) StoreSenderKey(
	_ context.Context, name *protocol.SenderKeyName, key *groupRecord.SenderKey,
) error {
	s.senderKeys[senderKey(name)] = key.Serialize()
	return nil
}

func senderKey(name *protocol.SenderKeyName) string {
	return name.GroupID() + " " + name.Sender().String()
}

// undamaged takes back what the library does to states that it tried in vain before another decrypted a message: it steps
// their ratchets, and keeps them so.
func undamaged(before, after []byte) []byte {
	if before == nil {
		return after
	}
	old, err := serializer.Session.Deserialize(before)
	if err != nil {
		return after
	}
	session, err := serializer.Session.Deserialize(after)
	if err != nil {
		return after
	}
	stored := map[string]*record.StateStructure{}
	for _, state := range append([]*record.StateStructure{old.SessionState}, old.PreviousStates...) {
		if state != nil && stored[string(state.SenderBaseKey)] == nil {
			stored[string(state.SenderBaseKey)] = state
		}
	}
	seen := map[string]bool{string(session.SessionState.SenderBaseKey): true}
	var previous []*record.StateStructure
	for _, state := range session.PreviousStates {
		key := string(state.SenderBaseKey)
		if seen[key] {
			continue
		}
		seen[key] = true
		if whole := stored[key]; whole != nil {
			state = whole
		}
		previous = append(previous, state)
	}
	session.PreviousStates = previous
	return serializer.Session.Serialize(session)
}

// What follows belongs to the interface and is never called: phones have no one-time keys, and one signed one.

func (signalStore) GetSubDeviceSessions(context.Context, string) ([]uint32, error) {
	return nil, errUnused
}

func (signalStore) DeleteSession(context.Context, *protocol.SignalAddress) error { return errUnused }

func (signalStore) DeleteAllSessions(context.Context) error { return errUnused }

func (signalStore) LoadPreKey(context.Context, uint32) (*record.PreKey, error) { return nil, errUnused }

func (signalStore) StorePreKey(context.Context, uint32, *record.PreKey) error { return errUnused }

func (signalStore) ContainsPreKey(context.Context, uint32) (bool, error) { return false, errUnused }

func (signalStore) RemovePreKey(context.Context, uint32) error { return errUnused }

func (signalStore) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) {
	return nil, errUnused
}

func (signalStore) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error {
	return errUnused
}

func (signalStore) ContainsSignedPreKey(context.Context, uint32) (bool, error) {
	return false, errUnused
}

func (signalStore) RemoveSignedPreKey(context.Context, uint32) error { return errUnused }
