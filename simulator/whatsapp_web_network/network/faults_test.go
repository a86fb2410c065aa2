package network_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

func TestASecondLoginReplacesTheFirst(t *testing.T) {
	n := start(t)
	first := paired(t, n, alice)
	second := client(t, n, first.Store)
	second.connect()
	next[*events.Connected](second, nil)
	next[*events.StreamReplaced](first, nil)
	if replaced := count(n, simulatorv1.LedgerKind_LEDGER_KIND_REPLACED); replaced != 1 {
		t.Fatal(replaced)
	}
}

func TestLoggingOutUnpairs(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_LOG_OUT, alice), 0)
	next[*events.LoggedOut](c, nil)
	if n.Account(alice).Paired() {
		t.Fatal("it is still paired")
	}
}

func TestABanEndsTheSessionAndRefusesLogins(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	device := *c.Store
	n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_BAN, alice), 0)
	banned := func(e *events.LoggedOut) bool { return e.Reason == events.ConnectFailureUnknownLogout }
	next(c, banned)
	again := client(t, n, &device)
	again.connect()
	next(again, banned)
	if n.ClearAll(n.Account(alice)) != 1 {
		t.Fatal("nothing was lifted")
	}
}

func TestLoginsAreRefusedWhileTheFaultLasts(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	c.Disconnect()
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_REFUSE_LOGINS, ""), 0)
	refused := client(t, n, c.Store)
	refused.connect()
	until(t, "the login is refused", func() bool {
		return count(n, simulatorv1.LedgerKind_LEDGER_KIND_LOGIN_REFUSED) == 1
	})
	n.Clear(id)
	again := client(t, n, c.Store)
	again.connect()
	next[*events.Connected](again, nil)
}

func TestAnExpiredClientIsToldSo(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	c.Disconnect()
	n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_EXPIRE_CLIENTS, ""), 0)
	again := client(t, n, c.Store)
	again.connect()
	next[*events.ClientOutdated](again, nil)
}

func TestADroppedConnectionIsNoticed(t *testing.T) {
	for name, kind := range map[string]simulatorv1.FaultKind{
		"dropped": simulatorv1.FaultKind_FAULT_KIND_DROP_CONNECTION, "16 MiB": simulatorv1.FaultKind_FAULT_KIND_LARGE_FRAME,
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t)
			c := paired(t, n, alice)
			n.Inject(fault(n, kind, alice), 0)
			if kind == simulatorv1.FaultKind_FAULT_KIND_LARGE_FRAME {
				// A client may survive it: then it goes on.
				write(t, n, alice, bob, "after it")
				next(c, saying("after it"))
				return
			}
			next[*events.Disconnected](c, nil)
			again := client(t, n, c.Store)
			again.connect()
			next[*events.Connected](again, nil)
		})
	}
}

func TestWrongSignaturesAreNotTrusted(t *testing.T) {
	n := start(t)
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_WRONG_SIGNATURES, ""), 0)
	if err := client(t, n, newDevice()).Connect(); err == nil {
		t.Fatal("certificates of a stranger were trusted")
	}
	n.Clear(id)
	n.Create(alice, "")
	n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_WRONG_SIGNATURES, alice), 0)
	c := client(t, n, newDevice())
	c.connect()
	if _, err := n.AcceptQR(next[*events.QR](c, nil).Codes[0], alice); err != nil {
		t.Fatal(err)
	}
	next[*events.PairError](c, nil)
	if n.Account(alice).Paired() {
		t.Fatal("it is paired")
	}
}

func TestAcknowledgementsAreLostOrLate(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_LOSE_ACKS, alice), 0)
	extra := whatsmeow.SendRequestExtra{ID: "3EB0BBBB", Timeout: 300 * time.Millisecond}
	if _, err := c.say(bob, said("hello"), extra); !errors.Is(err, whatsmeow.ErrMessageTimedOut) {
		t.Fatal(err)
	}
	next(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == extra.ID })
	n.Clear(id)
	late := fault(n, simulatorv1.FaultKind_FAULT_KIND_DELAY_ACKS, alice)
	late.Delay = 200 * time.Millisecond
	n.Inject(late, 0)
	before := time.Now()
	c.mustSay(bob, "again")
	if time.Since(before) < late.Delay {
		t.Fatal("it was acknowledged at once")
	}
}

func TestAStalledConnectionGoesOnWhereItStood(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	stall := fault(n, simulatorv1.FaultKind_FAULT_KIND_STALL, alice)
	n.Inject(stall, 0)
	write(t, n, alice, bob, "hello")
	if offered := count(n, simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_OFFERED); offered != 0 {
		t.Fatal("it was written")
	}
	n.Clear(stall.ID)
	next(c, saying("hello"))
}

func TestSlowAndNarrowConnectionsTakeTheirTime(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	slow := fault(n, simulatorv1.FaultKind_FAULT_KIND_SLOW, alice)
	slow.Delay = 200 * time.Millisecond
	n.Inject(slow, 0)
	before := time.Now()
	write(t, n, alice, bob, "slow")
	next(c, saying("slow"))
	n.Clear(slow.ID)
	narrow := fault(n, simulatorv1.FaultKind_FAULT_KIND_BANDWIDTH, alice)
	narrow.BytesPerSecond = 1000
	n.Inject(narrow, 0)
	write(t, n, alice, bob, "one")
	write(t, n, alice, bob, "two")
	next(c, saying("two"))
	if time.Since(before) < 300*time.Millisecond {
		t.Fatal("nothing took its time")
	}
}

func TestWithoutAcknowledgementsMessagesComeAgain(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_DROP_INBOUND_ACKS, alice), 0)
	write(t, n, alice, bob, "hello")
	next(c, saying("hello"))
	until(t, "the acknowledgement is dropped", func() bool {
		return count(n, simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_ACK_DROPPED) > 0
	})
	if n.Account(alice).Pending() != 1 {
		t.Fatal("it was taken for acknowledged")
	}
	n.Clear(id)
	offered := count(n, simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_OFFERED)
	c.Disconnect()
	again := client(t, n, c.Store)
	again.connect()
	next[*events.Connected](again, nil)
	until(t, "it is offered again", func() bool {
		return count(n, simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_OFFERED) > offered
	})
}

func TestOneTimeKeysAreGivenToSeveralPeople(t *testing.T) {
	n := start(t)
	a := paired(t, n, alice)
	n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_REPEAT_PREKEYS, alice), 0)
	write(t, n, alice, bob, "from bob")
	next(a, saying("from bob"))
	write(t, n, alice, carol, "from carol")
	next(a, saying("from carol")) // after the device asked for it again
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad == 0 {
		t.Fatal("both were readable")
	}
}

func TestHistoryWithoutEnd(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_ENDLESS_HISTORY, alice), 0)
	for range 5 {
		next[*events.HistorySync](c, nil)
	}
	n.Clear(id)
}

func TestALimitOfMessagesAMinute(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	n.SetBehaviour(n.Account(alice), &network.Behaviour{MessagesPerMinute: 2})
	c.mustSay(bob, "one")
	c.mustSay(bob, "two")
	if _, err := c.say(bob, said("three")); err == nil {
		t.Fatal("it was taken")
	}
}

func TestAStanzaIsHandedOverAsItIs(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	stanza, err := waBinary.Marshal(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{
		"from": types.NewJID(bob[1:], types.DefaultUserServer), "type": "unavailable", "last": "1700000000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	handed := fault(n, simulatorv1.FaultKind_FAULT_KIND_STANZA, alice)
	handed.Stanza = stanza
	n.Inject(handed, 0)
	if shown := next[*events.Presence](c, nil); shown.From.User != bob[1:] || !shown.Unavailable {
		t.Fatal(shown)
	}
}

func TestAnswersAreHalvedWhileTheFaultLasts(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	asked := []string{bob, carol}
	id := n.Inject(fault(n, simulatorv1.FaultKind_FAULT_KIND_HALF_ANSWERS, alice), 0)
	if half, err := c.IsOnWhatsApp(context.Background(), asked); err == nil && len(half) == len(asked) {
		t.Fatal(half)
	}
	n.Clear(id)
	if whole, err := c.IsOnWhatsApp(context.Background(), asked); err != nil || len(whole) != len(asked) {
		t.Fatal(whole, err)
	}
}

func TestAnswersComeLateWhileTheFaultLasts(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	late := fault(n, simulatorv1.FaultKind_FAULT_KIND_LATE_ANSWERS, alice)
	late.Delay = 200 * time.Millisecond
	n.Inject(late, 0)
	began := time.Now()
	if _, err := c.IsOnWhatsApp(context.Background(), []string{bob}); err != nil || time.Since(began) < late.Delay {
		t.Fatal(time.Since(began), err)
	}
}
