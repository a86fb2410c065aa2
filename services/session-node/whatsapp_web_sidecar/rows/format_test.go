package rows

import (
	"reflect"
	"testing"

	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/message"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"
)

func chainOf(mark byte, skipped ...uint32) *record.ChainStructure {
	c := &record.ChainStructure{
		SenderRatchetKeyPublic: []byte{5, mark}, SenderRatchetKeyPrivate: []byte{mark}, ChainKey: &chain.KeyStructure{Key: []byte{mark, 1}, Index: uint32(mark)},
	}
	for _, index := range skipped {
		c.MessageKeys = append(c.MessageKeys, &message.KeysStructure{CipherKey: []byte{mark, 2}, MacKey: []byte{mark, 3}, IV: []byte{mark, 4}, Index: index})
	}
	return c
}

func TestASessionIsReadAsItWasWritten(t *testing.T) {
	state := &record.StateStructure{
		LocalIdentityPublic: []byte{5, 1}, LocalRegistrationID: 1 << 31, NeedsRefresh: true, PreviousCounter: 7,
		PendingKeyExchange: &record.PendingKeyExchangeStructure{
			Sequence: 9, LocalBaseKeyPublic: []byte{1}, LocalBaseKeyPrivate: []byte{2}, LocalRatchetKeyPublic: []byte{3},
			LocalRatchetKeyPrivate: []byte{4}, LocalIdentityKeyPublic: []byte{5}, LocalIdentityKeyPrivate: []byte{6},
		},
		PendingPreKey:  &record.PendingPreKeyStructure{PreKeyID: optional.NewOptionalUint32(0), SignedPreKeyID: 1<<32 - 1, BaseKey: []byte{5, 2}},
		ReceiverChains: []*record.ChainStructure{chainOf(1, 0, 4), chainOf(2)}, RemoteIdentityPublic: []byte{5, 3}, RemoteRegistrationID: 12,
		RootKey: []byte{4}, SenderBaseKey: []byte{5, 4}, SenderChain: chainOf(3), SessionVersion: 3,
	}
	later := *state
	later.PendingKeyExchange, later.ReceiverChains = nil, nil
	later.PendingPreKey = &record.PendingPreKeyStructure{PreKeyID: optional.NewEmptyUint32(), SignedPreKeyID: 1, BaseKey: []byte{5}}
	session := &record.SessionStructure{SessionState: &later, PreviousStates: []*record.StateStructure{state, &later}}
	read, err := serializer.Session.Deserialize(serializer.Session.Serialize(session))
	if err != nil || !reflect.DeepEqual(read, session) {
		t.Fatalf("%+v, %v", read, err)
	}
}

// Whatever the library comes to keep of a session must be stored, too: else its contact cannot be read any more.
func TestNothingOfASessionIsLeftOut(t *testing.T) {
	for _, of := range []struct {
		kept   any
		stored int
	}{
		{record.SessionStructure{}, 2}, {record.StateStructure{}, 13}, {record.ChainStructure{}, 4}, {chain.KeyStructure{}, 2},
		{message.KeysStructure{}, 4}, {record.PendingPreKeyStructure{}, 3}, {record.PendingKeyExchangeStructure{}, 7}, {optional.Uint32{}, 2},
	} {
		if kept := reflect.TypeOf(of.kept).NumField(); kept != of.stored {
			t.Errorf("%T has %d fields, of which %d are stored", of.kept, kept, of.stored)
		}
	}
}

func TestWhatIsNoSessionIsRefused(t *testing.T) {
	for name, raw := range map[string][]byte{
		"nothing": {}, "JSON": []byte(`{"SessionState":{}}`), "garbage": {0xff, 0xff},
		"cut": serializer.Session.Serialize(&record.SessionStructure{SessionState: &record.StateStructure{SenderChain: chainOf(1)}})[:5],
	} {
		if read, err := serializer.Session.Deserialize(raw); err == nil {
			t.Errorf("%s: %+v", name, read)
		}
	}
	var empty serialize.SessionStructure
	if _, err := unpackState(&empty); err == nil {
		t.Error("a session without a chain")
	}
}
