package device

import (
	"sync"
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// A node ends a connection that asks for more than it takes at once.
func TestNoMoreIsAskedForAtOnceThanANodeTakes(t *testing.T) {
	asked := make(chan uint64, 1000)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		asked <- said.GetReadRows().GetSequence()
		return true
	})
	var reading sync.WaitGroup
	for range 4 * maxQuestions {
		reading.Go(func() {
			if _, err := d.Read(t.Context(), []string{"key"}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	open := make([]uint64, 0, 4*maxQuestions)
	for answered := 0; answered < 4*maxQuestions; { // whatever came is open until as many as can be are
		for len(open) < min(maxQuestions, 4*maxQuestions-answered) {
			open = append(open, <-asked)
		}
		if len(asked) > 0 {
			t.Fatal("more are open")
		}
		for _, sequence := range open {
			d.RowsRead(&internalv1.RowsRead{Sequence: sequence})
		}
		answered += len(open)
		open = open[:0]
	}
	reading.Wait()
}

func TestAConnectionThatEndsWaitsForNoQuestion(t *testing.T) {
	d := newDevice(1, "acc_1", nil, func(*internalv1.RunResponse) bool { return true })
	var reading sync.WaitGroup
	for range 2 * maxQuestions {
		reading.Go(func() {
			if _, err := d.Read(t.Context(), []string{"key"}, nil); err == nil {
				t.Error("nobody has answered")
			}
		})
	}
	d.cancel()
	reading.Wait()
}
