package rows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/libsignal/signalerror"
)

// Without the lock of GetManySessions and DoDecryptionTxn some of them change a session that another one has changed
// meanwhile, and what is sent next cannot be read.
func TestEncryptingAndDecryptingAtTheSameTimeLosesNothing(t *testing.T) {
	anna, bert := acquainted(t)
	anna.table.commit, bert.table.commit = time.Millisecond, time.Millisecond
	const messages = 150
	var all sync.WaitGroup
	for _, pair := range [][2]*party{{anna, bert}, {bert, anna}} {
		from, to := pair[0], pair[1]
		under := make(chan wire, messages)
		all.Go(func() {
			defer close(under)
			for i := range messages {
				message, err := from.send(to, fmt.Sprint(i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				under <- message
			}
		})
		all.Go(func() {
			i := 0
			for message := range under {
				if got, err := to.receive(from, message); err != nil || got != fmt.Sprint(i) {
					t.Errorf("message %d: %q, %v", i, got, err)
				}
				i++
			}
		})
	}
	all.Wait()
}

// An answer to a retry receipt, and a message to the account's phone, are encrypted outside SendMessage: without the
// lock of GetSession a decryption may come between.
func TestAnEncryptionOutsideASendHoldsTheRatchet(t *testing.T) {
	anna, bert := acquainted(t)
	address := bert.jid.SignalAddress().String()
	session, err := anna.GetSession(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if len(anna.ratchet) != 1 {
		t.Fatal("the ratchets are free while a session is being changed")
	}
	if err := anna.PutSession(t.Context(), address, session); err != nil {
		t.Fatal(err)
	}
	if len(anna.ratchet) != 0 {
		t.Fatal("the ratchets stay locked")
	}
	// It took too long, and others used the session: it is not written over what they did.
	if err := anna.PutSession(t.Context(), address, session); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A decryption that is not settled holds the ratchets: nothing is encrypted from a state that is not stored.
func TestNothingIsEncryptedBeforeTheMessageIsStored(t *testing.T) {
	anna, bert := acquainted(t)
	message, err := bert.send(anna, "one more", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anna.open(bert, message); err != nil {
		t.Fatal(err)
	}
	if len(anna.ratchet) != 1 {
		t.Fatal("the ratchets are free")
	}
	if !anna.Receive(false, anna.table.Write) {
		t.Fatal("not stored")
	}
	if len(anna.ratchet) != 0 {
		t.Fatal("the ratchets stay locked")
	}
}

func TestWhatADecryptionChangedIsStoredWithItsMessageAndNotBefore(t *testing.T) {
	anna, bert := acquainted(t)
	message, err := bert.send(anna, "one more", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := anna.table.count()
	if _, err := anna.open(bert, message); err != nil {
		t.Fatal(err)
	}
	var with []Change
	if !anna.Receive(false, func(changes []Change) <-chan bool {
		with = changes
		if len(anna.ratchet) != 1 {
			t.Error("the ratchets are free before it is stored")
		}
		return anna.table.Write(changes)
	}) {
		t.Fatal("not stored")
	}
	if wrote := anna.table.count() - before; wrote != 1 {
		t.Fatalf("stored in %d pieces", wrote)
	}
	if len(with) != 1 || with[0].Key != sessionKey(bert.jid.SignalAddress().String()) {
		t.Fatalf("%v", with)
	}
}

// The library acknowledges a message after any other error, and the next owner never gets it.
func TestWhatIsNotStoredIsCancelled(t *testing.T) {
	anna, bert := acquainted(t)
	message, err := bert.send(anna, "one more", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := bert.send(anna, "and another", nil)
	if err != nil {
		t.Fatal(err)
	}
	anna.table.refuseAll()
	if _, err := anna.receive(bert, message); !errors.Is(err, ErrNotStored) {
		t.Fatalf("received: %v", err)
	}
	if _, err := anna.open(bert, again); !errors.Is(err, context.Canceled) {
		t.Fatalf("received after it: %v", err)
	}
	if _, err := anna.send(bert, "from a state that is not stored", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("sent: %v", err)
	}
}

func TestAMessageThatWasNotStoredIsReadByTheNextOwner(t *testing.T) {
	anna, bert := acquainted(t)
	message, err := bert.send(anna, "one more", nil)
	if err != nil {
		t.Fatal(err)
	}
	anna.table.refuseAll()
	if _, err := anna.receive(bert, message); err == nil {
		t.Fatal("stored")
	}
	if got, err := anna.taken(t).receive(bert, message); err != nil || got != "one more" {
		t.Fatal(got, err)
	}
}

// The write-ahead: a refused commit lets nothing leave.
func TestNothingLeavesThatIsNotStored(t *testing.T) {
	anna, bert := newParty(t, "1001"), newParty(t, "1002")
	bundle := bert.bundle(t)
	anna.table.refuseAll()
	if _, err := anna.send(bert, "hello", bundle); !errors.Is(err, context.Canceled) {
		t.Fatalf("sent: %v", err)
	}
}

func TestNothingLeavesToAGroupThatIsNotStored(t *testing.T) {
	anna := newParty(t, "1001")
	anna.table.commit = 300 * time.Millisecond // who does not wait for it has sent before that
	anna.table.refuseAll()
	if _, _, err := anna.sendToGroup("1@g.us", "hello"); !errors.Is(err, context.Canceled) {
		t.Fatalf("sent: %v", err)
	}
}

func TestMostMessagesNeedNoCommitOfTheirOwn(t *testing.T) {
	anna, bert := acquainted(t)
	before := anna.table.count()
	for i := range 2 * Block {
		exchange(t, anna, bert, fmt.Sprint(i), nil)
	}
	if commits := anna.table.count() - before; commits > 2 {
		t.Fatalf("%d commits for %d messages", commits, 2*Block)
	}
}

// Without the skip the next owner uses positions that the last one used, and the receiver drops what it sends.
func TestTheNextOwnerSkipsWhatTheLastOneMayHaveUsed(t *testing.T) {
	anna, bert := acquainted(t)
	for i := range Block + 10 {
		exchange(t, anna, bert, fmt.Sprint(i), nil)
	}
	next := anna.taken(t)
	for i := range 10 {
		exchange(t, next, bert, fmt.Sprint("after the takeover ", i), nil)
	}
}

func TestTheNextOwnerSkipsInGroups(t *testing.T) {
	const group = "1@g.us"
	anna, bert := newParty(t, "1001"), newParty(t, "1002")
	before := anna.table.count()
	for i := range 10 {
		key, sealed, err := anna.sendToGroup(group, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			bert.learnKey(t, group, anna, key)
		}
		if got, err := bert.receiveInGroup(group, anna, sealed); err != nil || got != fmt.Sprint(i) {
			t.Fatal(i, got, err)
		}
	}
	if commits := anna.table.count() - before; commits > 1 {
		t.Fatalf("%d commits for 10 messages", commits)
	}
	_, sealed, err := anna.taken(t).sendToGroup(group, "after the takeover")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bert.receiveInGroup(group, anna, sealed); err != nil || got != "after the takeover" {
		t.Fatal(got, err)
	}
}

// When both write first, each has two sessions with the other, and reads with an archived one what the other wrote with
// it: the library would damage those that it tries in vain.
func TestArchivedSessionsStayWhole(t *testing.T) {
	anna, bert := newParty(t, "1001"), newParty(t, "1002")
	pairs := [][2]*party{{anna, bert}, {bert, anna}}
	var under [2][]wire
	write := func(round int) {
		for i, pair := range pairs {
			bundle := pair[1].bundle(t)
			if round > 0 {
				bundle = nil
			}
			message, err := pair[0].send(pair[1], fmt.Sprint(round), bundle)
			if err != nil {
				t.Fatal(err)
			}
			under[i] = append(under[i], message)
		}
	}
	const behind, rounds = 5, 40
	for round := range behind {
		write(round)
	}
	for round := range rounds {
		for i, pair := range pairs {
			if got, err := pair[1].receive(pair[0], under[i][round]); err != nil || got != fmt.Sprint(round) {
				t.Fatalf("round %d, from %s: %q, %v", round, pair[0].jid.User, got, err)
			}
		}
		write(behind + round)
	}
}

// While one of both holds the ratchets, the other waits, whichever came first.
func TestDecryptingWaitsForEncryptingAndTheOtherWayRound(t *testing.T) {
	anna, bert := acquainted(t)
	address := bert.jid.SignalAddress().String()
	// Where the lock is free as well, it is taken every other time.
	const tries = 40
	over, cancel := context.WithCancel(context.Background())
	cancel()
	sending, done := anna.Sending(t.Context())
	if _, err := anna.GetManySessions(sending, []string{address}); err != nil {
		t.Fatal(err)
	}
	for range tries {
		if err := anna.DoDecryptionTxn(over, func(context.Context) error { return nil }); err == nil {
			t.Fatal("it decrypts while a message is being encrypted")
		}
	}
	done()
	message, err := bert.send(anna, "one more", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anna.open(bert, message); err != nil {
		t.Fatal(err)
	}
	for range tries {
		again, done := anna.Sending(over)
		if _, err := anna.GetManySessions(again, []string{address}); err == nil {
			t.Fatal("it encrypts while a message is not stored")
		}
		done()
	}
}

func TestASessionThatCannotBeReadIsBegunAnew(t *testing.T) {
	anna, bert := acquainted(t)
	next := anna.taken(t)
	for key, value := range next.table.rows {
		if strings.Contains(key, "/session/") {
			next.table.rows[key] = value[:3]
		}
	}
	if known, err := next.HasSession(t.Context(), bert.jid.SignalAddress().String()); err != nil || known {
		t.Fatal(known, err)
	}
	exchange(t, next, bert, "hello again", bert.bundle(t))
}

func TestNoMessageWithoutAnEventHoldsTheRatchet(t *testing.T) {
	anna, _ := acquainted(t)
	for _, plain := range [][]byte{nil, {1}, {9, 9, 9}, append([]byte{0xFF, 0xFF}, 1)} {
		err := anna.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
			return anna.PutBufferedEvent(ctx, [32]byte{}, plain, time.Now())
		})
		if err != nil && !errors.Is(err, signalerror.ErrOldCounter) { // as what was read before, which nobody is asked for again
			t.Fatal(err)
		}
		if anna.Decrypted() && string(plain) != "\x01" {
			t.Fatalf("%x waits for an event", plain)
		}
		if anna.Decrypted() {
			anna.Receive(false, anna.table.Write)
		}
		if len(anna.ratchet) != 0 {
			t.Fatalf("%x holds the ratchets", plain)
		}
	}
}
