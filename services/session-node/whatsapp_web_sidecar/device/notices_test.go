package device

import (
	"context"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// teller is a device, and what it has told of beside messages, by sequence.
func teller(t *testing.T) (*Device, *[]uint64) {
	t.Helper()
	told := &[]uint64{}
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		if notice := said.GetNotice(); notice != nil {
			*told = append(*told, notice.GetSequence())
		}
		return true
	})
	t.Cleanup(d.cancel)
	return d, told
}

// withheld is how many stanzas wait to be acknowledged.
func (d *Device) withheld() int {
	d.notices.mu.Lock()
	defer d.notices.mu.Unlock()
	return d.notices.stanzas
}

// acknowledged waits until none is.
func (d *Device) acknowledged(t *testing.T) {
	t.Helper()
	for d.withheld() > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("it is never acknowledged")
		}
	}
}

var notification = &waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{"id": "1", "type": "w:gp2"}}

func TestAStanzaIsNotAcknowledgedUntilAllThatItSaidIsStored(t *testing.T) {
	d, told := teller(t)
	ctx, end := d.beginNotices(t.Context(), notification)
	if ctx.Err() != nil {
		t.Fatal("it is withheld before it has said anything")
	}
	d.notify(&internalv1.DeviceNotice{})
	d.notify(&internalv1.DeviceNotice{})
	if ctx.Err() == nil { // the library acknowledges what it has handled, unless this has ended
		t.Fatal("the library acknowledges it")
	}
	end()
	d.NoticeStored((*told)[1])
	if d.withheld() != 1 {
		t.Fatal("it is acknowledged, and one of the two is not stored")
	}
	d.NoticeStored((*told)[0])
	d.acknowledged(t)
}

func TestAStanzaWhoseWordsAreStoredAtOnceIsAcknowledgedWhenItIsHandled(t *testing.T) {
	d, told := teller(t)
	_, end := d.beginNotices(t.Context(), notification)
	d.notify(&internalv1.DeviceNotice{})
	d.NoticeStored((*told)[0])
	if d.withheld() != 1 {
		t.Fatal("it may have more to say")
	}
	end()
	d.acknowledged(t)
}

func TestAStanzaThatSaysNothingIsTheLibrarysToAcknowledge(t *testing.T) {
	d, told := teller(t)
	ctx, end := d.beginNotices(t.Context(), notification)
	end()
	if ctx.Err() != nil || d.withheld() != 0 || len(*told) != 0 {
		t.Fatal(ctx.Err(), d.withheld(), *told)
	}
}

func TestWhatIsToldBesideStanzasIsSaidToBeStoredOnceItIs(t *testing.T) {
	d, told := teller(t)
	stored := make(chan bool)
	go func() { stored <- d.tell(&internalv1.DeviceNotice{}) }()
	for sequence := uint64(0); sequence == 0; {
		d.saying.Lock()
		if len(*told) > 0 {
			sequence = (*told)[0]
		}
		d.saying.Unlock()
		if sequence != 0 {
			d.NoticeStored(sequence)
		}
	}
	if !<-stored {
		t.Fatal("it was stored")
	}
	go func() { stored <- d.tell(&internalv1.DeviceNotice{}) }()
	d.cancel()
	if <-stored {
		t.Fatal("the connection has ended, and it is not stored")
	}
}

func TestManyStanzasThatWaitHoldUpTheNext(t *testing.T) {
	d, told := teller(t)
	for range manyNotices {
		_, end := d.beginNotices(t.Context(), notification)
		d.notify(&internalv1.DeviceNotice{})
		end()
	}
	begun := make(chan struct{})
	go func() {
		_, end := d.beginNotices(context.Background(), notification)
		end()
		close(begun)
	}()
	for waits := false; !waits; {
		d.notices.mu.Lock()
		waits = d.notices.fewer != nil
		d.notices.mu.Unlock()
		select {
		case <-begun:
			t.Fatal("it is handled")
		case <-time.After(time.Millisecond):
		}
	}
	d.NoticeStored((*told)[0])
	<-begun
}
