package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// keepPoll keeps a poll as a message of a queue brings it.
func (p *party) keepPoll(t *testing.T, of keeping, id string) {
	t.Helper()
	poll := Change{pollPrefix + id, encode([]string{"yes", "no"})}
	more, err := p.bounded(t.Context(), of, []Change{poll})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.commit(append(more, poll)...); err != nil {
		t.Fatal(err)
	}
}

func (p *party) knows(id string) bool {
	_, known := p.Poll(id)
	return known
}

// aged is the device with its next owner, a while later.
func (p *party) aged(t *testing.T, by time.Duration) *party {
	t.Helper()
	next := p.taken(t)
	for key, value := range next.table.rows {
		if !strings.HasPrefix(key, "kept/") && !strings.HasPrefix(key, "login/kept/") {
			continue
		}
		var row map[string]any
		if err := json.Unmarshal(value, &row); err != nil {
			t.Fatal(err)
		}
		row["Since"] = int64(row["Since"].(float64)) - int64(by.Seconds())
		next.table.rows[key] = encode(row)
	}
	return next
}

func TestWhatOthersSendIsBoundedInNumberAndTheOldestGoes(t *testing.T) {
	anna := newParty(t, "1001")
	anna.keepPoll(t, keptSent, "own")
	for i := range maxKept + 3 {
		anna.keepPoll(t, keptReceived, fmt.Sprint(i))
	}
	for i := range 3 {
		if anna.knows(fmt.Sprint(i)) {
			t.Fatal(i, " is still there")
		}
	}
	if !anna.knows("3") || !anna.knows(fmt.Sprint(maxKept+2)) || !anna.knows("own") {
		t.Fatal("too much is let go")
	}
	if rows := len(anna.table.stored()); rows > 2*(maxKept+2)+2 {
		t.Fatal(rows)
	}
}

func TestWhatOthersSendIsBoundedInBytes(t *testing.T) {
	anna, bert := newParty(t, "1001"), newParty(t, "1002")
	large := strings.Repeat("a", maxKeptBytes)
	if err := anna.KeepPoll("POLL", []string{"yes", large}); err != nil {
		t.Fatal(err)
	}
	if err := anna.PutMessageSecret(t.Context(), bert.jid, bert.jid, "POLL", []byte(large)); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := anna.GetMessageSecret(t.Context(), bert.jid, bert.jid, "POLL"); err != nil || secret != nil || anna.knows("POLL") {
		t.Fatal(len(secret), err)
	}
}

func TestWhatIsTooOldGoesWithTheNextLogin(t *testing.T) {
	anna := newParty(t, "1001")
	for i := range 3 {
		anna.keepPoll(t, keptReceived, fmt.Sprint(i))
		anna.keepPoll(t, keptSent, fmt.Sprint("own ", i))
	}
	young := anna.aged(t, keptFor-time.Hour)
	if err := young.Expire(t.Context()); err != nil || !young.knows("0") || !young.knows("own 2") {
		t.Fatal(err)
	}
	old := anna.aged(t, keptFor+time.Hour)
	if err := old.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.commit(Change{"login/last", []byte{1}}); err != nil { // all before it are settled
		t.Fatal(err)
	}
	for key := range old.table.stored() {
		if strings.HasPrefix(key, pollPrefix) || strings.HasPrefix(key, "kept/") {
			t.Fatal(key)
		}
	}
	old.keepPoll(t, keptReceived, "new")
	if !old.knows("new") {
		t.Fatal("nothing is kept any more")
	}
}

func TestWhatIsTooOldGoesWithWhatIsKeptNext(t *testing.T) {
	anna := newParty(t, "1001")
	anna.keepPoll(t, keptReceived, "old")
	next := anna.aged(t, keptFor+time.Hour)
	next.keepPoll(t, keptReceived, "new")
	if next.knows("old") || !next.knows("new") {
		t.Fatal(next.knows("old"), next.knows("new"))
	}
}

func TestWhatIsKeptOfAMessageIsStoredWithIt(t *testing.T) {
	anna, bert := acquainted(t)
	message, err := bert.send(anna, "a poll", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anna.open(bert, message); err != nil {
		t.Fatal(err)
	}
	if err := anna.KeepPoll("POLL", []string{"yes", "no"}); err != nil {
		t.Fatal(err)
	}
	before := anna.table.count()
	if !anna.Receive(true, anna.table.Write) || anna.table.count() != before+1 {
		t.Fatal("it is not stored, or not at once")
	}
	if next := anna.taken(t); !next.knows("POLL") || next.table.rows["kept/received/0"] == nil {
		t.Fatal(next.table.rows)
	}
}

func TestWhereAFileIsIsStoredBeforeItsMessageLeaves(t *testing.T) {
	anna, bert := acquainted(t)
	file := &internalv1.StoredFile{DirectPath: "/mms/image/1"}
	keep := func(sending context.Context) error { return anna.KeepFile(sending, "3EB0", file) }
	if _, err := anna.sendWith(bert, "a picture", nil, keep); err != nil {
		t.Fatal(err)
	}
	next := anna.taken(t)
	if kept, err := next.File(t.Context(), "3EB0"); err != nil || kept.GetDirectPath() != "/mms/image/1" {
		t.Fatal(kept, err)
	}
	if next.table.rows["kept/sent/0"] == nil {
		t.Fatal("it will never be let go")
	}
	anna.table.refuseAll()
	if _, err := anna.sendWith(bert, "another", nil, keep); err == nil {
		t.Fatal("it leaves")
	}
}

func TestSecretsOfTheLastMessagesAreKeptAndNoOthers(t *testing.T) {
	anna := newParty(t, "1001")
	put := func(id string) {
		more, err := anna.recently([]Change{{secretPrefix + id, []byte("1002@s.whatsapp.net\x00" + strings.Repeat("s", secretBytes))}})
		if err == nil {
			err = anna.commit(more...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const last = (recentBlocks + 2) * recentInBlock
	for i := range last {
		put(fmt.Sprint(i))
	}
	next := anna.taken(t)
	for id, want := range map[string]int{"0": 0, fmt.Sprint(recentInBlock): 1, fmt.Sprint(last - 1): 1} {
		if found, err := next.Secrets(t.Context(), id); err != nil || len(found) != want {
			t.Errorf("%s: %v %v", id, found, err)
		}
	}
	if rows := len(anna.table.stored()); rows > recentBlocks+10 {
		t.Fatal(rows)
	}
	more, err := anna.recently([]Change{{secretPrefix + "large", []byte("1002@s.whatsapp.net\x00" + strings.Repeat("s", 1<<20))}})
	if err != nil || len(more) != 1 || len(more[0].Value) > 4096 {
		t.Fatal(len(more), err)
	}
}
