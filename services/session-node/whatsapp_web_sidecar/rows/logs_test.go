package rows

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.mau.fi/whatsmeow/store"
)

const regular = "regular"

func readingLog(t *testing.T, anna *party) (*Reading, context.Context) {
	t.Helper()
	reading, err := anna.ReadLog(regular)
	if err != nil {
		t.Fatal(err)
	}
	return reading, reading.Context(t.Context())
}

// reads is what the library does for a patch of a log: how far it is, and an entry.
func reads(t *testing.T, anna *party, ctx context.Context, version uint64, entry string) {
	t.Helper()
	_, _, err := anna.GetAppStateVersion(ctx, regular)
	if err == nil {
		err = anna.PutAppStateVersion(ctx, regular, version, [128]byte{byte(version)})
	}
	if err == nil {
		err = anna.PutAppStateMutationMACs(ctx, regular, version, []store.AppStateMutationMAC{{IndexMAC: []byte(entry), ValueMAC: []byte("mac")}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// read is a log of which a version is stored.
func read(t *testing.T, anna *party, version uint64) {
	t.Helper()
	reading, ctx := readingLog(t, anna)
	reads(t, anna, ctx, version, "first")
	if err := reading.End(true); err != nil {
		t.Fatal(err)
	}
}

// next is what whoever reads the rows after a crash finds.
func next(t *testing.T, anna *party) (version uint64, entry bool, open []string) {
	t.Helper()
	after := New("acc_1", anna.table)
	version, _, err := after.LogVersion(t.Context(), regular)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := after.GetAppStateMutationMAC(t.Context(), regular, []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	if open, err = after.OpenLogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	return version, mac != nil, open
}

func TestWhatIsReadOfALogIsStoredOnceItIsTold(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	reading, ctx := readingLog(t, anna)
	reads(t, anna, ctx, 2, "second")

	if version, entry, open := next(t, anna); version != 1 || entry || !slices.Equal(open, []string{regular}) {
		t.Fatal(version, entry, open)
	}
	if version, _, err := anna.GetAppStateVersion(ctx, regular); err != nil || version != 2 { // who reads on sees it
		t.Fatal(version, err)
	}
	if err := reading.End(true); err != nil {
		t.Fatal(err)
	}
	if version, entry, open := next(t, anna); version != 2 || !entry || len(open) != 0 {
		t.Fatal(version, entry, open)
	}
}

func TestWhatIsReadOfALogWaitsForAllWhoReadIt(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	first, ctx := readingLog(t, anna)
	reads(t, anna, ctx, 2, "second")
	second, _ := readingLog(t, anna)
	if err := second.End(true); err != nil {
		t.Fatal(err)
	}
	if version, _, open := next(t, anna); version != 1 || len(open) != 1 {
		t.Fatal(version, open)
	}
	if err := first.End(true); err != nil {
		t.Fatal(err)
	}
	if version, _, open := next(t, anna); version != 2 || len(open) != 0 {
		t.Fatal(version, open)
	}
}

func TestWhatWasNotToldOfALogIsReadAgain(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	first, ctx := readingLog(t, anna)
	reads(t, anna, ctx, 2, "second")
	if err := first.End(false); err != nil {
		t.Fatal(err)
	}
	again, ctx := readingLog(t, anna)
	if version, _, err := anna.GetAppStateVersion(ctx, regular); err != nil || version != 1 {
		t.Fatal(version, err)
	}
	reads(t, anna, ctx, 2, "second")
	if err := again.End(true); err != nil {
		t.Fatal(err)
	}
	if version, entry, open := next(t, anna); version != 2 || !entry || len(open) != 0 {
		t.Fatal(version, entry, open)
	}
}

func TestAReadingThatBeganBeforeAnotherFailedIsNotTheLastOne(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	failing, ctx := readingLog(t, anna)
	reads(t, anna, ctx, 2, "second")
	other, ctx := readingLog(t, anna)
	if err := failing.End(false); err != nil {
		t.Fatal(err)
	}
	if err := anna.PutAppStateVersion(ctx, regular, 3, [128]byte{}); !errors.Is(err, ErrReadElsewhere) { // upon what is not told
		t.Fatal(err)
	}
	if err := other.End(true); err != nil {
		t.Fatal(err)
	}
	if version, entry, open := next(t, anna); version != 1 || entry || len(open) != 1 {
		t.Fatal(version, entry, open)
	}
}

func TestALogThatIsReadFromItsBeginningHasNoVersionUntilItIsTold(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	reading, ctx := readingLog(t, anna)
	if err := anna.DeleteAppStateVersion(ctx, regular); err != nil {
		t.Fatal(err)
	}
	reads(t, anna, ctx, 7, "second")
	if version, _, open := next(t, anna); version != 0 || len(open) != 1 {
		t.Fatal(version, open)
	}
	if err := reading.End(true); err != nil {
		t.Fatal(err)
	}
	if version, entry, open := next(t, anna); version != 7 || !entry || len(open) != 0 {
		t.Fatal(version, entry, open)
	}
}

func TestOfALogThatIsReadFarOnNothingIsStoredUntilItIsTold(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	reading, ctx := readingLog(t, anna)
	reads(t, anna, ctx, 2, "second")
	many := make([]store.AppStateMutationMAC, maxChanges)
	for i := range many {
		many[i] = store.AppStateMutationMAC{IndexMAC: []byte{byte(i), byte(i >> 8)}, ValueMAC: []byte("mac")}
	}
	if err := anna.PutAppStateMutationMACs(ctx, regular, 2, many); err != nil {
		t.Fatal(err)
	}
	if version, _, _ := next(t, anna); version != 0 { // else what is set anew would not fit
		t.Fatal(version)
	}
	if version, _, err := anna.GetAppStateVersion(ctx, regular); err != nil || version != 2 {
		t.Fatal(version, err)
	}
	if err := reading.End(true); err != nil {
		t.Fatal(err)
	}
	if version, entry, open := next(t, anna); version != 2 || !entry || len(open) != 0 {
		t.Fatal(version, entry, open)
	}
}

func TestTheLibraryReadsNoLogByItself(t *testing.T) {
	anna := newParty(t, "1001")
	if _, _, err := anna.GetAppStateVersion(t.Context(), regular); !errors.Is(err, ErrReadElsewhere) {
		t.Fatal(err)
	}
}

func TestLogsOfWhichNothingIsReadAreLeftOpen(t *testing.T) {
	anna := newParty(t, "1001")
	read(t, anna, 1)
	if err := anna.LeaveOpen(t.Context()); err != nil {
		t.Fatal(err)
	}
	open, err := anna.OpenLogs(t.Context())
	if err != nil || len(open) != 4 || slices.Contains(open, regular) {
		t.Fatal(open, err)
	}
}
