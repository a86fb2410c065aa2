package device

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/types/events"
)

// What the account's devices have in common is in logs of patches, with checksums over all that came before: a device that has
// read one wrongly once can read no later one, and changes nothing any more. Then it reads all of the log anew, and where that
// does not fit either, the account's phone is asked for what it has.

const (
	// How soon a log is read anew once more, and the phone asked for it.
	readAnewAgain = time.Minute
	askPhoneAgain = time.Hour
)

// misfits are the logs that could not be read on.
type misfits struct {
	mu    sync.Mutex
	anew  map[appstate.WAPatchName]*readingAnew
	asked map[appstate.WAPatchName]time.Time
}

// readingAnew is a log that is read from its beginning, or was.
type readingAnew struct {
	began time.Time
	ended chan struct{}
	err   error
}

// onMisfit is told of a log that cannot be read on. The library holds its lock over all of them meanwhile.
func (d *Device) onMisfit(said *events.AppStateSyncError) {
	m := &d.misfits
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if said.FullSync {
		if last, asked := m.asked[said.Name]; asked && now.Sub(last) < askPhoneAgain {
			return
		}
		if m.asked == nil {
			m.asked = map[appstate.WAPatchName]time.Time{}
		}
		m.asked[said.Name] = now
		go d.contain(func() { d.askForLog(said.Name) })
		return
	}
	if last := m.anew[said.Name]; last != nil && now.Sub(last.began) < readAnewAgain {
		return
	}
	if m.anew == nil {
		m.anew = map[appstate.WAPatchName]*readingAnew{}
	}
	reading := &readingAnew{began: now, ended: make(chan struct{})}
	m.anew[said.Name] = reading
	go d.contain(func() {
		d.log.write(levelWarning, "what the account's devices have in common does not fit, and is read anew", "of", string(said.Name))
		internals := d.client.DangerousInternals()
		var found []any
		found, reading.err = internals.FetchAppState(d.ctx, said.Name, true, false)
		close(reading.ended)
		for _, event := range found {
			internals.DispatchEvent(event)
		}
	})
}

func (d *Device) askForLog(name appstate.WAPatchName) {
	d.log.write(levelWarning, "what the account's devices have in common does not fit, and the phone is asked for it", "of", string(name))
	if _, err := d.client.SendPeerMessage(d.ctx, whatsmeow.BuildAppStateRecoveryRequest(name)); err != nil && d.ctx.Err() == nil {
		d.log.write(levelWarning, "the phone cannot be asked", "problem", err.Error())
	}
}

// mended waits until a log that did not fit has been read anew, and says whether it could be.
func (d *Device) mended(ctx context.Context, name appstate.WAPatchName) bool {
	d.misfits.mu.Lock()
	reading := d.misfits.anew[name]
	d.misfits.mu.Unlock()
	if reading == nil {
		return false
	}
	select {
	case <-reading.ended:
		return reading.err == nil
	case <-ctx.Done():
		return false
	}
}

// misfit says whether something failed because a log is not what its checksums say.
func misfit(err error) bool {
	for _, kind := range []error{
		appstate.ErrMismatchingLTHash, appstate.ErrMismatchingPatchMAC, appstate.ErrMismatchingContentMAC, appstate.ErrMismatchingIndexMAC,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// catchUp reads what other devices have changed.
func (d *Device) catchUp(ctx context.Context, name appstate.WAPatchName) error {
	err := d.client.FetchAppState(ctx, name, false, false)
	if misfit(err) && d.mended(ctx, name) {
		return nil
	}
	return err
}

// share changes what the account's devices have in common, one change after another: each is made upon the one before. Where
// another device was faster the library tries once more, unless what that changed is just being read: so this tries, too.
func (d *Device) share(ctx context.Context, patch appstate.PatchInfo) error {
	if err := d.keysShared(ctx); err != nil {
		return err
	}
	d.sharing.Lock()
	defer d.sharing.Unlock()
	var err error
	for range 3 {
		switch err = d.client.SendAppState(ctx, patch); {
		case err == nil:
			return nil
		case misfit(err):
			if !d.mended(ctx, patch.Type) {
				return err
			}
		case errors.Is(err, whatsmeow.ErrAppStateUpdate):
			if d.catchUp(ctx, patch.Type) != nil {
				return err
			}
		default:
			return err
		}
	}
	return err
}
