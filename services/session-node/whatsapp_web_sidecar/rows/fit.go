package rows

import (
	"strings"
	"unicode/utf8"
)

// What the node takes of one row, in bytes.
const (
	maxKey   = 512
	maxValue = 1 << 20
)

// storable are the changes that can be rows. Whoever writes chooses the ids of messages and the answers of polls, which
// need not fit: the message must be stored all the same, or it comes again for ever, and nothing behind it.
func storable(changes []Change) []Change {
	kept := make([]Change, 0, len(changes))
	for _, change := range changes {
		if nameable(change.Key) && len(change.Value) <= maxValue {
			kept = append(kept, change)
		}
	}
	return kept
}

// nameable says whether a row can have the name: there is none of any other.
func nameable(key string) bool {
	return len(key) <= maxKey && utf8.ValidString(key) && !strings.Contains(key, "\x00")
}

// maxRatchet bounds what is stored of one session or sender key, in bytes: somebody who skips thousands of messages in
// every session could make it larger than a row may be, and the account could not store anything of theirs any more.
const maxRatchet = 512 << 10

// maxPerson bounds what the sessions with one person's devices take together, in bytes, as they are read together: each
// may be large while they are few.
const maxPerson = 2 << 20

// fitSession lets the oldest of what one of a person's sessions could still read go, where it is too large: sessions
// before it, and then messages that were skipped.
func fitSession(raw []byte, sessions int) []byte {
	most := min(maxRatchet, maxPerson/max(sessions, 1))
	for len(raw) > most {
		session, err := serializer.Session.Deserialize(raw)
		if err != nil || session.SessionState == nil {
			return raw
		}
		switch previous := len(session.PreviousStates); {
		case previous > 0:
			session.PreviousStates = session.PreviousStates[:previous/2]
		default:
			skipped := 0
			for _, chain := range session.SessionState.ReceiverChains {
				skipped += len(chain.MessageKeys)
				chain.MessageKeys = chain.MessageKeys[(len(chain.MessageKeys)+1)/2:]
			}
			if skipped == 0 {
				return raw
			}
		}
		raw = serializer.Session.Serialize(session)
	}
	return raw
}

// fitSenderKey does so with a member's key in a group.
func fitSenderKey(raw []byte) []byte {
	for len(raw) > maxRatchet {
		key, err := serializer.SenderKeyRecord.Deserialize(raw)
		if err != nil || len(key.SenderKeyStates) == 0 {
			return raw
		}
		if states := len(key.SenderKeyStates); states > 1 {
			key.SenderKeyStates = key.SenderKeyStates[:states/2]
		} else if state := key.SenderKeyStates[0]; len(state.Keys) > 0 {
			state.Keys = state.Keys[(len(state.Keys)+1)/2:]
		} else {
			return raw
		}
		raw = serializer.SenderKeyRecord.Serialize(key)
	}
	return raw
}
