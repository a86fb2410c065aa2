package device

import (
	"context"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// maxQuestions is how many questions of one connection the node is asked at once. It ends a connection that has 64 open, and
// the network decides how many there are reasons for: it may tell of hundreds of people's new phones after a login.
const maxQuestions = 32

// Read asks the node for rows.
func (d *Device) Read(ctx context.Context, keys, prefixes []string) (map[string][]byte, error) {
	read, err := question(ctx, d, d.reading, func(sequence uint64) *internalv1.RunResponse {
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_ReadRows{ReadRows: &internalv1.ReadRows{
			Sequence: sequence, Keys: keys, Prefixes: prefixes,
		}}}
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string][]byte, len(read.GetRows()))
	for _, row := range read.GetRows() {
		found[row.GetKey()] = row.GetValue()
	}
	return found, nil
}

// question asks the node for something that is stored, and waits for the answer; first until few enough others do.
func question[Answer interface{ GetFailed() bool }](
	ctx context.Context, d *Device, waiting map[uint64]chan Answer, asked func(sequence uint64) *internalv1.RunResponse,
) (Answer, error) {
	var none Answer
	select {
	case d.questions <- struct{}{}:
		defer func() { <-d.questions }()
	case <-ctx.Done():
		return none, rows.ErrNotStored
	case <-d.ctx.Done():
		return none, rows.ErrNotStored
	}
	answer := make(chan Answer, 1)
	d.saying.Lock()
	d.mu.Lock()
	d.sequence++
	sequence := d.sequence
	waiting[sequence] = answer
	d.mu.Unlock()
	said := d.sayLocked(asked(sequence))
	d.saying.Unlock()
	if !said {
		return none, rows.ErrNotStored
	}
	select {
	case got := <-answer:
		if got.GetFailed() {
			return none, rows.ErrNotStored
		}
		return got, nil
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
	return none, rows.ErrNotStored
}

// Write hands rows to the node.
func (d *Device) Write(changes []rows.Change) <-chan bool {
	return d.settle(func(sequence uint64) *internalv1.RunResponse {
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_WriteRows{WriteRows: &internalv1.WriteRows{
			Sequence: sequence, Changes: changesOf(changes),
		}}}
	})
}

func (d *Device) settle(said func(sequence uint64) *internalv1.RunResponse) <-chan bool {
	answer := make(chan bool, 1)
	d.saying.Lock()
	defer d.saying.Unlock()
	d.mu.Lock()
	d.sequence++
	sequence := d.sequence
	d.settling[sequence] = answer
	d.mu.Unlock()
	if !d.sayLocked(said(sequence)) {
		answer <- false
	}
	return answer
}

// RowsRead is what the node answers to Read.
func (d *Device) RowsRead(read *internalv1.RowsRead) {
	answered(d, d.reading, read.GetSequence(), read)
}

func answered[Answer any](d *Device, waiting map[uint64]chan Answer, sequence uint64, got Answer) {
	d.mu.Lock()
	answer := waiting[sequence]
	delete(waiting, sequence)
	d.mu.Unlock()
	if answer != nil {
		answer <- got
	}
}

// RowsSettled is what the node answers to Write, and to a message.
func (d *Device) RowsSettled(settled *internalv1.RowsSettled) {
	answered(d, d.settling, settled.GetSequence(), settled.GetStored())
}

func changesOf(changes []rows.Change) []*internalv1.StateRowChange {
	out := make([]*internalv1.StateRowChange, len(changes))
	for i, change := range changes {
		out[i] = &internalv1.StateRowChange{Key: change.Key, Value: change.Value}
	}
	return out
}
