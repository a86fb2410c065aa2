// Package ledger keeps what the network saw happen, in order, as mesh_simulator's checker reads it.
package ledger

import (
	"sync"
	"time"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Record is one thing that happened; docs/simulator.md says which kind has which fields.
type Record struct {
	Kind       simulatorv1.LedgerKind
	Time       time.Time
	Connection uint32
	Account    string
	Counter    uint64
	Code       uint32
	Digest     []byte
	ID         string
	Peer       string
}

// Ledger may be written by several goroutines.
type Ledger struct {
	mu      sync.Mutex
	records []Record
	counts  map[simulatorv1.LedgerKind]int64
}

// New makes an empty ledger.
func New() *Ledger { return &Ledger{counts: map[simulatorv1.LedgerKind]int64{}} }

// Append adds a record, and gives it its time.
func (l *Ledger) Append(record Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	record.Time = time.Now()
	l.records = append(l.records, record)
	l.counts[record.Kind]++
}

// Count is how many records of a kind there are.
func (l *Ledger) Count(kind simulatorv1.LedgerKind) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[kind]
}

// Read returns at most limit records from the given one on; none: that was all.
func (l *Ledger) Read(from, limit int) []*simulatorv1.LedgerRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from >= len(l.records) {
		return nil
	}
	chosen := l.records[from:min(from+limit, len(l.records))]
	out := make([]*simulatorv1.LedgerRecord, len(chosen))
	for i, r := range chosen {
		out[i] = &simulatorv1.LedgerRecord{
			Kind: r.Kind, Time: timestamppb.New(r.Time), Connection: r.Connection, Account: r.Account,
			Counter: r.Counter, Code: r.Code, Digest: r.Digest, Id: r.ID, Peer: r.Peer,
		}
	}
	return out
}
