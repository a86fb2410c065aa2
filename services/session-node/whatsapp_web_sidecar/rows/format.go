package rows

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/message"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"

	"go.mau.fi/whatsmeow/store"
)

// serializer is the library's, but for sessions: it keeps these as JSON, which takes as long to read as everything else
// that a message needs. Every message reads and writes two of them.
var serializer = func() *serialize.Serializer {
	store.SignalProtobufSerializer.Session = sessionFormat{}
	return store.SignalProtobufSerializer
}()

var errNoSession = errors.New("it is no session")

// sessionFormat is the Signal protocol's own form of stored sessions.
type sessionFormat struct{}

func (sessionFormat) Serialize(session *record.SessionStructure) []byte {
	stored := &serialize.RecordStructure{CurrentSession: packState(session.SessionState)}
	for _, state := range session.PreviousStates {
		stored.PreviousSessions = append(stored.PreviousSessions, packState(state))
	}
	raw, _ := proto.Marshal(stored) // there are no texts in it
	return raw
}

func (sessionFormat) Deserialize(raw []byte) (*record.SessionStructure, error) {
	var stored serialize.RecordStructure
	if err := proto.Unmarshal(raw, &stored); err != nil {
		return nil, err
	}
	session := &record.SessionStructure{}
	var err error
	if session.SessionState, err = unpackState(stored.GetCurrentSession()); err != nil {
		return nil, err
	}
	for _, packed := range stored.GetPreviousSessions() {
		state, err := unpackState(packed)
		if err != nil {
			return nil, err
		}
		session.PreviousStates = append(session.PreviousStates, state)
	}
	return session, nil
}

func packState(state *record.StateStructure) *serialize.SessionStructure {
	packed := &serialize.SessionStructure{
		SessionVersion: proto.Uint32(uint32(state.SessionVersion)), LocalIdentityPublic: state.LocalIdentityPublic,
		RemoteIdentityPublic: state.RemoteIdentityPublic, RootKey: state.RootKey, PreviousCounter: &state.PreviousCounter,
		SenderChain: packChain(state.SenderChain), RemoteRegistrationId: &state.RemoteRegistrationID,
		LocalRegistrationId: &state.LocalRegistrationID, NeedsRefresh: &state.NeedsRefresh, AliceBaseKey: state.SenderBaseKey,
	}
	for _, receiving := range state.ReceiverChains {
		packed.ReceiverChains = append(packed.ReceiverChains, packChain(receiving))
	}
	if pending := state.PendingPreKey; pending != nil {
		packed.PendingPreKey = &serialize.SessionStructure_PendingPreKey{
			SignedPreKeyId: proto.Int32(int32(pending.SignedPreKeyID)), BaseKey: pending.BaseKey,
		}
		if pending.PreKeyID != nil && !pending.PreKeyID.IsEmpty {
			packed.PendingPreKey.PreKeyId = &pending.PreKeyID.Value
		}
	}
	if exchange := state.PendingKeyExchange; exchange != nil {
		packed.PendingKeyExchange = &serialize.SessionStructure_PendingKeyExchange{
			Sequence: &exchange.Sequence, LocalBaseKey: exchange.LocalBaseKeyPublic, LocalBaseKeyPrivate: exchange.LocalBaseKeyPrivate,
			LocalRatchetKey: exchange.LocalRatchetKeyPublic, LocalRatchetKeyPrivate: exchange.LocalRatchetKeyPrivate,
			LocalIdentityKey: exchange.LocalIdentityKeyPublic, LocalIdentityKeyPrivate: exchange.LocalIdentityKeyPrivate,
		}
	}
	return packed
}

func unpackState(packed *serialize.SessionStructure) (*record.StateStructure, error) {
	if packed == nil {
		return nil, errNoSession
	}
	state := &record.StateStructure{
		SessionVersion: int(packed.GetSessionVersion()), LocalIdentityPublic: packed.LocalIdentityPublic,
		RemoteIdentityPublic: packed.RemoteIdentityPublic, RootKey: packed.RootKey, PreviousCounter: packed.GetPreviousCounter(),
		RemoteRegistrationID: packed.GetRemoteRegistrationId(), LocalRegistrationID: packed.GetLocalRegistrationId(),
		NeedsRefresh: packed.GetNeedsRefresh(), SenderBaseKey: packed.AliceBaseKey,
	}
	var err error
	if state.SenderChain, err = unpackChain(packed.SenderChain); err != nil {
		return nil, err
	}
	for _, receiving := range packed.ReceiverChains {
		unpacked, err := unpackChain(receiving)
		if err != nil {
			return nil, err
		}
		state.ReceiverChains = append(state.ReceiverChains, unpacked)
	}
	if pending := packed.PendingPreKey; pending != nil {
		state.PendingPreKey = &record.PendingPreKeyStructure{
			PreKeyID: optional.NewEmptyUint32(), SignedPreKeyID: uint32(pending.GetSignedPreKeyId()), BaseKey: pending.BaseKey,
		}
		if pending.PreKeyId != nil {
			state.PendingPreKey.PreKeyID = optional.NewOptionalUint32(*pending.PreKeyId)
		}
	}
	if exchange := packed.PendingKeyExchange; exchange != nil {
		state.PendingKeyExchange = &record.PendingKeyExchangeStructure{
			Sequence: exchange.GetSequence(), LocalBaseKeyPublic: exchange.LocalBaseKey, LocalBaseKeyPrivate: exchange.LocalBaseKeyPrivate,
			LocalRatchetKeyPublic: exchange.LocalRatchetKey, LocalRatchetKeyPrivate: exchange.LocalRatchetKeyPrivate,
			LocalIdentityKeyPublic: exchange.LocalIdentityKey, LocalIdentityKeyPrivate: exchange.LocalIdentityKeyPrivate,
		}
	}
	return state, nil
}

func packChain(of *record.ChainStructure) *serialize.SessionStructure_Chain {
	packed := &serialize.SessionStructure_Chain{
		SenderRatchetKey: of.SenderRatchetKeyPublic, SenderRatchetKeyPrivate: of.SenderRatchetKeyPrivate,
		ChainKey: &serialize.SessionStructure_Chain_ChainKey{Index: &of.ChainKey.Index, Key: of.ChainKey.Key},
	}
	for _, key := range of.MessageKeys {
		packed.MessageKeys = append(packed.MessageKeys, &serialize.SessionStructure_Chain_MessageKey{
			Index: &key.Index, CipherKey: key.CipherKey, MacKey: key.MacKey, Iv: key.IV,
		})
	}
	return packed
}

func unpackChain(packed *serialize.SessionStructure_Chain) (*record.ChainStructure, error) {
	if packed == nil || packed.ChainKey == nil {
		return nil, errNoSession
	}
	unpacked := &record.ChainStructure{
		SenderRatchetKeyPublic: packed.SenderRatchetKey, SenderRatchetKeyPrivate: packed.SenderRatchetKeyPrivate,
		ChainKey: &chain.KeyStructure{Index: packed.ChainKey.GetIndex(), Key: packed.ChainKey.Key},
	}
	for _, key := range packed.MessageKeys {
		unpacked.MessageKeys = append(unpacked.MessageKeys, &message.KeysStructure{
			Index: key.GetIndex(), CipherKey: key.CipherKey, MacKey: key.MacKey, IV: key.Iv,
		})
	}
	return unpacked, nil
}
