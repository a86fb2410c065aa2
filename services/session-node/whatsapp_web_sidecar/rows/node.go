// Package rows is the library's store of one linked device, kept in rows that the session-node stores under its fence.
//
// Nothing that was encrypted leaves before the rows that say so are stored; what a decryption changed is stored together
// with the message that it brought. Rows are read when they are needed, and let go when they are many.
package rows

import (
	"context"
	"errors"
	"fmt"
)

// A Change is what a row holds from now on; a nil Value deletes it.
type Change struct {
	Key   string
	Value []byte
}

// A Node stores rows.
type Node interface {
	// Read returns the rows that exist of these, and all whose names begin with one of prefixes. Of many who
	// ask at once most wait.
	Read(ctx context.Context, keys, prefixes []string) (map[string][]byte, error)
	// Write hands changes over, to be stored in the order of the calls. The answer says whether they are.
	Write(changes []Change) <-chan bool
}

// ErrNotStored is a change that will never be stored, or a store that is closed. It wraps context.Canceled: for any other
// error the library acknowledges a message that it could not decrypt, and the account's next owner never gets it.
var ErrNotStored = fmt.Errorf("the account's rows cannot be stored: %w", context.Canceled)

// ErrUnusable is a state that cannot be loaded: missing, truncated, or another account's.
var ErrUnusable = errors.New("the device's rows cannot be used")
