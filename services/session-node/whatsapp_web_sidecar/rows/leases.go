package rows

import (
	"encoding/json"
	"fmt"
	"strings"

	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/state/record"
	"google.golang.org/protobuf/proto"
)

// Block is how many positions of a sending chain are reserved by one commit. A row of a ratchet begins with the number
// of positions behind its own that may have been used without being stored; whoever reads it goes on after them, or it
// would use one twice, and the receiver silently drops the second message.
const Block = 64

// lease is up to where the positions of one chain may be used.
type lease struct {
	chain string
	upto  uint32
}

// encodeRatchet is the stored form of a session or a sender key.
func encodeRatchet(key string, raw []byte) []byte {
	reserved := byte(0)
	if _, _, ok := sendingChain(key, raw); ok {
		reserved = Block
	}
	return append([]byte{reserved}, raw...)
}

// decodeRatchet reads a stored form, past what may have been used of it; nil: it cannot be read, and a new ratchet must
// be begun.
func decodeRatchet(key string, stored []byte) []byte {
	if len(stored) < 2 {
		return nil
	}
	reserved, raw := int(stored[0]), stored[1:]
	if strings.HasPrefix(key, senderKeyPrefix) {
		return skipSenderKey(raw, reserved)
	}
	return skipSession(raw, reserved)
}

func skipSession(raw []byte, positions int) []byte {
	session, err := record.NewSessionFromBytes(raw, serializer.Session, serializer.State)
	if err != nil {
		return nil
	}
	if positions == 0 || !session.SessionState().HasSenderChain() {
		return raw
	}
	chain := session.SessionState().SenderChainKey()
	for range positions {
		chain = chain.NextKey()
	}
	session.SessionState().SetSenderChainKey(chain)
	return session.Serialize()
}

func skipSenderKey(raw []byte, positions int) []byte {
	key, err := grouprecord.NewSenderKeyFromBytes(raw, serializer.SenderKeyRecord, serializer.SenderKeyState)
	if err != nil {
		return nil
	}
	if positions == 0 || key.IsEmpty() {
		return raw
	}
	state, err := key.SenderKeyState()
	if err != nil {
		return nil
	}
	chain := state.SenderChainKey()
	for range positions {
		chain = chain.Next()
	}
	state.SetSenderChainKey(chain)
	return key.Serialize()
}

// senderKeyHead is what is looked at of a sender key, which the library keeps as JSON.
type senderKeyHead struct {
	SenderKeyStates []struct {
		KeyID             uint32
		SenderChainKey    *struct{ Iteration uint32 }
		SigningKeyPrivate string
		SigningKeyPublic  string
	}
}

// sendingChain names the chain that a session or an own sender key encrypts with, and its next position. A session that
// still sends its prekey message is another one than when it does not: what it needs to say so must be stored first.
func sendingChain(key string, raw []byte) (chain string, position uint32, ok bool) {
	if strings.HasPrefix(key, senderKeyPrefix) {
		var head senderKeyHead
		if json.Unmarshal(raw, &head) != nil || len(head.SenderKeyStates) == 0 {
			return "", 0, false
		}
		state := head.SenderKeyStates[0]
		if state.SigningKeyPrivate == "" || state.SenderChainKey == nil { // another member's
			return "", 0, false
		}
		return fmt.Sprint(state.KeyID, state.SigningKeyPublic), state.SenderChainKey.Iteration, true
	}
	var session serialize.RecordStructure
	if proto.Unmarshal(raw, &session) != nil {
		return "", 0, false
	}
	sending := session.GetCurrentSession().GetSenderChain()
	if sending.GetChainKey() == nil || len(sending.GetSenderRatchetKey()) == 0 {
		return "", 0, false
	}
	chain = string(sending.GetSenderRatchetKey())
	if session.GetCurrentSession().GetPendingPreKey() != nil {
		chain += "pending"
	}
	return chain, sending.GetChainKey().GetIndex(), true
}

// within says whether all of these are at positions that are reserved; if not, none may be used before they are stored.
func (c *cache) within(ratchets []Change) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ratchet := range ratchets {
		u := c.units[unitOf(ratchet.Key)]
		chain, position, ok := sendingChain(ratchet.Key, ratchet.Value)
		if !ok || u == nil {
			return false
		}
		if held, leased := u.leases[ratchet.Key]; !leased || held.chain != chain || position > held.upto {
			return false
		}
	}
	return true
}

// reserve notes what encodeRatchet reserved for changes that were applied; it counts once they are stored.
func (c *cache) reserve(changes []Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		if !isRatchet(change.Key) {
			continue
		}
		u := c.units[unitOf(change.Key)]
		if u == nil {
			continue
		}
		if chain, position, ok := sendingChain(change.Key, change.Value); ok && change.Value != nil {
			if u.leases == nil {
				u.leases = map[string]lease{}
			}
			u.leases[change.Key] = lease{chain, position + Block}
		} else {
			delete(u.leases, change.Key)
		}
	}
}
