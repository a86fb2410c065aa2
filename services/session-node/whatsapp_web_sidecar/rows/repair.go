package rows

import "go.mau.fi/libsignal/state/record"

// repair undoes what libsignal v0.2.2 does to the archived states of a session that it tried in vain before another one
// decrypted: it steps their ratchets and then keeps them (SessionCipher.DecryptWithState works on no copy). Every state
// but the current one is as it was stored; states that are there twice go.
func repair(stored, raw []byte) []byte {
	is, err := serializer.Session.Deserialize(raw)
	if err != nil || len(is.PreviousStates) == 0 {
		return raw
	}
	was, err := serializer.Session.Deserialize(stored)
	if err != nil {
		return raw
	}
	intact := map[string]*record.StateStructure{}
	for _, state := range append([]*record.StateStructure{was.SessionState}, was.PreviousStates...) {
		if state == nil {
			continue
		}
		if _, twice := intact[string(state.SenderBaseKey)]; !twice {
			intact[string(state.SenderBaseKey)] = state
		}
	}
	seen := map[string]bool{string(is.SessionState.SenderBaseKey): true}
	var previous []*record.StateStructure
	for _, state := range is.PreviousStates {
		base := string(state.SenderBaseKey)
		if seen[base] {
			continue
		}
		seen[base] = true
		if whole := intact[base]; whole != nil {
			state = whole
		}
		previous = append(previous, state)
	}
	is.PreviousStates = previous
	return serializer.Session.Serialize(is)
}
