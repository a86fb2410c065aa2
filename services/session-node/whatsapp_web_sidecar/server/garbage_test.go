package server_test

import (
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
)

// What the network seals and nobody can read is passed over: a client that reads it ends its process, and so all accounts'
// connections.
func TestAnAccountGoesOnAfterFramesThatNobodyCanRead(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	for range 2 { // with other connections of the same process
		if _, err := n.InjectFault(t.Context(), &simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_GARBAGE, Phone: account}); err != nil {
			t.Fatal(err)
		}
		n.write(account, bert, "after it")
		got := until(l, func(r *internalv1.RunResponse) (*internalv1.IncomingMessage, bool) {
			return r.GetIncoming(), r.GetIncoming() != nil
		})
		if got.GetContent().GetText().GetBody() != "after it" {
			t.Fatal(got)
		}
		taken := l.stored()
		l.close()
		l = s.open(taken)
	}
}
