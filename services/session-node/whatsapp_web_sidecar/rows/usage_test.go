package rows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// few has queues of people be short.
func few(t *testing.T, people int) {
	t.Helper()
	before := maxPeople
	maxPeople = people
	t.Cleanup(func() { maxPeople = before })
}

// later is the device with its next owner, a while later.
func (p *party) later(t *testing.T, by time.Duration) *party {
	t.Helper()
	if err := p.commit(Change{"login/last", []byte{1}}); err != nil { // all before it are settled
		t.Fatal(err)
	}
	next := p.taken(t)
	for key, value := range next.table.rows {
		isUsed := strings.HasPrefix(key, peerPrefix) && strings.HasSuffix(key, "/used")
		if !isUsed && !strings.HasPrefix(key, peoplePrefix) && !strings.HasPrefix(key, loginPrefix+peoplePrefix) {
			continue
		}
		var row map[string]any
		if err := json.Unmarshal(value, &row); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Day", "Oldest"} {
			if since, is := row[name].(float64); is {
				row[name] = int64(since) - int64(by/day)
			}
		}
		next.table.rows[key] = encode(row)
	}
	return next
}

// meet has somebody write.
func (p *party) meet(t *testing.T, user string) {
	t.Helper()
	if err := p.commit(Change{peerKey(user, "identity/1"), []byte("key")}, Change{peerKey(user, "session/1"), []byte("session")}); err != nil {
		t.Fatal(err)
	}
}

// of are the names of what is stored of somebody.
func (p *party) of(t *testing.T, user string) (names []string) {
	t.Helper()
	if err := p.commit(Change{"login/last", []byte{1}}); err != nil {
		t.Fatal(err)
	}
	for key := range p.table.stored() {
		if strings.HasPrefix(key, peerKey(user, "")) {
			names = append(names, key)
		}
	}
	return names
}

func TestOfPeopleWhoWroteLongAgoTheFirstGoOnceThereAreTooMany(t *testing.T) {
	few(t, 3)
	anna := newParty(t, "1001")
	for i := range 3 {
		anna.meet(t, fmt.Sprint("200", i, "_1"))
	}
	next := anna.later(t, peopleAtLeast+day)
	next.meet(t, "2000_1")
	next.meet(t, "2003_1")
	for user, there := range map[string]bool{"2000_1": true, "2001_1": false, "2002_1": true, "2003_1": true} {
		if names := next.of(t, user); len(names) > 0 != there {
			t.Error(user, names)
		}
	}
}

func TestWhoWroteLatelyStaysHoweverManyThereAre(t *testing.T) {
	few(t, 3)
	anna := newParty(t, "1001")
	for i := range 6 {
		anna.meet(t, fmt.Sprint("200", i, "_1"))
	}
	next := anna.later(t, peopleAtLeast-2*day)
	if err := next.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	next.meet(t, "2009_1")
	for i := range 6 {
		if len(next.of(t, fmt.Sprint("200", i, "_1"))) == 0 {
			t.Error(i)
		}
	}
}

func TestWhoWasNotHeardOfForAYearGoesWithTheNextLogin(t *testing.T) {
	anna := newParty(t, "1001")
	anna.meet(t, "2000_1")
	anna.meet(t, "1001_1") // another of its own devices
	number, hidden := types.NewJID("4915100000002", types.DefaultUserServer), types.NewJID("2002", types.HiddenUserServer)
	if err := anna.PutLIDMapping(t.Context(), hidden, number); err != nil {
		t.Fatal(err)
	}
	next := anna.later(t, peopleFor+day)
	if err := next.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"2000_1", "2002_1", number.User} {
		if names := next.of(t, user); len(names) > 0 {
			t.Error(names)
		}
	}
	if len(next.of(t, "1001_1")) == 0 {
		t.Error("its own device is gone")
	}
	for key := range next.table.stored() {
		if strings.HasPrefix(key, peoplePrefix) {
			t.Error(key)
		}
	}
}

func TestPeopleWhoAreOnlyKnownTakeNoPlaceOfThoseWhoWrote(t *testing.T) {
	few(t, 3)
	anna := newParty(t, "1001")
	anna.meet(t, "2000_1")
	next := anna.later(t, peopleAtLeast+day)
	for i := range 20 {
		number, hidden := types.NewJID(fmt.Sprint(4915100000100+i), types.DefaultUserServer), types.NewJID(fmt.Sprint(3000+i), types.HiddenUserServer)
		if err := next.PutLIDMapping(t.Context(), hidden, number); err != nil {
			t.Fatal(err)
		}
	}
	if len(next.of(t, "2000_1")) == 0 {
		t.Fatal("who wrote is gone")
	}
	next.meet(t, "3001_1")
	next = next.later(t, 2*day)
	if err := next.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(next.of(t, "3000_1")) > 0 || len(next.of(t, "3001_1")) == 0 || len(next.of(t, "3019_1")) == 0 || len(next.of(t, "2000_1")) == 0 {
		t.Fatal(next.of(t, "3000_1"), next.of(t, "3001_1"), next.of(t, "3019_1"))
	}
}

func TestTheDayOfTheLastTimeIsWrittenOnceADay(t *testing.T) {
	anna, bert := acquainted(t)
	exchange(t, bert, anna, "hello", nil)
	places := func() (found int) {
		for key := range anna.table.stored() {
			if strings.HasPrefix(key, peoplePrefix) {
				found++
			}
		}
		return found
	}
	before := anna.table.stored()[queueKey(whoWrote)]
	for range 5 {
		exchange(t, bert, anna, "hello again", nil)
	}
	if string(before) == "" || string(anna.table.stored()[queueKey(whoWrote)]) != string(before) || places() != 1 {
		t.Fatal(places())
	}
}

func TestASessionThatWasLetGoIsMadeAnew(t *testing.T) {
	anna, bert := acquainted(t)
	next := anna.later(t, peopleFor+day)
	if err := next.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if has, err := next.HasSession(t.Context(), bert.jid.SignalAddress().String()); err != nil || has {
		t.Fatal(has, err)
	}
	exchange(t, next, bert, "hello after a year", bert.bundle(t))
	exchange(t, bert, next, "hello", nil)
}
