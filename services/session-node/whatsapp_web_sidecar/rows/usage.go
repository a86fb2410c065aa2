package rows

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Of people whom nobody has written to or heard of for long nothing is kept: sessions are made anew when they are needed, ids
// are asked for. Who wrote with the account, or gave it a token, stands in one queue, by the day of the last time; who is only
// known, such as the members of large groups by their two ids, in the other. A day is written once, with what is written anyway.
const (
	// For how long people of each queue are kept at most.
	peopleFor = 365 * 24 * time.Hour
	// What WhatsApp can still deliver, it delivers within a month: for so long a session stays, however many there are.
	peopleAtLeast = 45 * 24 * time.Hour
	// How many go with one change, and with a login.
	peopleAtOnce  = 8
	peopleAtLogin = 512
	// How many places of a queue are looked at in one go: those that somebody has left are empty.
	placesAtOnce = 256
)

const day = 24 * time.Hour

// maxPeople is how many of each queue are kept; tests have fewer.
var maxPeople = 20_000

// queueRow is the state of a queue: its places are from First until before Next, and so many people stand in it, the first
// of them since the day Oldest, or a later one.
type queueRow struct {
	First, Next uint64
	People      int
	Oldest      int64
}

// placeRow is a place in a queue: people of one day. In the queue of who wrote it is one.
type placeRow struct {
	Day   int64
	Users []string
}

// usedRow is with what is known of a person who wrote: their place.
type usedRow struct {
	Place uint64
	Day   int64
}

// The queues, as their places are named.
const (
	whoWrote = peoplePrefix + "wrote/"
	whoKnown = peoplePrefix + "known/"
)

func queueKey(of string) string { return loginPrefix + of }

func placeKey(of string, number uint64) string { return fmt.Sprintf("%s%d", of, number) }

func today() int64 { return time.Now().Unix() / int64(day/time.Second) }

// hand makes changes visible and hands them to write, with what must change together with them so that the people whom they
// are about are let go some day. It returns all of them: they are to be settled.
func (s *Store) hand(changes []Change, write func([]Change) <-chan bool) ([]Change, <-chan bool, error) {
	s.usage.Lock() // until they are handed over: queues are stored in their order
	defer s.usage.Unlock()
	more, err := s.using(changes)
	if err != nil {
		return nil, nil, err
	}
	s.apply(more)
	changes = slices.Concat(changes, more)
	return changes, write(encoded(changes)), nil
}

func (s *Store) using(changes []Change) ([]Change, error) {
	wrote, known, err := s.people(changes)
	if err != nil || len(wrote) == 0 && len(known) == 0 {
		return nil, err
	}
	var more []Change
	for of, users := range map[string][]string{whoWrote: wrote, whoKnown: known} {
		if len(users) == 0 {
			continue
		}
		queue, err := s.queue(of)
		if err != nil {
			return nil, err
		}
		before := queue
		var added []Change
		if of == whoWrote {
			added, err = s.wrote(&queue, users)
		} else {
			added = queue.stand(of, users)
		}
		if err != nil {
			return nil, err
		}
		if queue == before {
			continue
		}
		gone, err := s.letPeopleGo(of, &queue, wrote, peopleAtOnce)
		if err != nil {
			return nil, err
		}
		more = append(append(append(more, gone...), added...), Change{queueKey(of), encode(queue)})
	}
	return more, nil
}

// people are those whom changes are about: who wrote or gave a token, and of whom nothing was known yet.
func (s *Store) people(changes []Change) (wrote, known []string, err error) {
	for _, change := range changes {
		rest, is := strings.CutPrefix(change.Key, peerPrefix)
		user, what, _ := strings.Cut(rest, "/")
		if !is || change.Value == nil || s.isOwn(user) {
			continue
		}
		if what == "token" || strings.HasPrefix(what, "session/") {
			if !slices.Contains(wrote, user) {
				wrote = append(wrote, user)
			}
			continue
		}
		if what != "pn" {
			continue
		}
		there, err := s.all(s.ctx, peerKey(user, ""))
		if err != nil {
			return nil, nil, err
		}
		if delete(there, peerKey(user, "pn")); len(there) == 0 {
			known = append(known, user)
		}
	}
	return wrote, known, nil
}

// isOwn says whether it is the account itself, whose other devices are no people, or nobody knows yet who that is.
func (s *Store) isOwn(user string) bool {
	return s.device == nil || s.device.ID == nil || user == s.device.ID.User || user == hiddenUser(s.device.GetLID())
}

// stand puts people at the end of a queue.
func (q *queueRow) stand(of string, users []string) []Change {
	if q.First == q.Next {
		q.Oldest = today()
	}
	place := Change{placeKey(of, q.Next), encode(placeRow{today(), users})}
	q.Next++
	q.People += len(users)
	return []Change{place}
}

// wrote has people stand at the end of their queue, once a day.
func (s *Store) wrote(queue *queueRow, users []string) (changes []Change, err error) {
	for _, user := range users {
		key := peerKey(user, "used")
		value, err := s.look(s.ctx, key)
		if err != nil {
			return nil, err
		}
		var used usedRow
		if value != nil && json.Unmarshal(value, &used) == nil {
			if used.Day == today() {
				continue
			}
			changes = append(changes, Change{placeKey(whoWrote, used.Place), nil})
			queue.People--
		}
		changes = append(changes, Change{key, encode(usedRow{queue.Next, today()})})
		changes = append(changes, queue.stand(whoWrote, []string{user})...)
	}
	return changes, nil
}

// letPeopleGo moves a queue's beginning behind who is too many, or was not heard of for too long, some of them; not those
// who write just now.
func (s *Store) letPeopleGo(of string, queue *queueRow, writing []string, most int) (gone []Change, err error) {
	young := today() - 1
	if of == whoWrote {
		young = today() - int64(peopleAtLeast/day)
	}
	stays := func(since int64) bool {
		return since > young || queue.People <= maxPeople && since > today()-int64(peopleFor/day)
	}
	for most > 0 && queue.First < queue.Next && !stays(queue.Oldest) {
		keys := make([]string, min(queue.Next-queue.First, placesAtOnce))
		for i := range keys {
			keys[i] = placeKey(of, queue.First+uint64(i))
		}
		found, err := s.node.Read(s.ctx, keys, nil)
		if err != nil {
			return nil, ErrNotStored
		}
		for _, key := range keys {
			var place placeRow
			if found[key] != nil && json.Unmarshal(found[key], &place) == nil {
				if queue.Oldest = place.Day; most <= 0 || stays(place.Day) {
					return gone, nil
				}
				forgotten, people, err := s.forget(of, queue.First, place.Users, writing)
				if err != nil {
					return nil, err
				}
				gone = append(append(gone, forgotten...), Change{key, nil})
				queue.People -= people
				most -= len(place.Users)
			}
			queue.First++
		}
	}
	return gone, nil
}

// forget lets go of all that is known of the people of a place, and returns of how many it was the place.
func (s *Store) forget(of string, number uint64, users, writing []string) (gone []Change, people int, err error) {
	for _, user := range users {
		known, err := s.all(s.ctx, peerKey(user, ""))
		if err != nil {
			return nil, 0, err
		}
		var used usedRow
		value := known[peerKey(user, "used")]
		stands := of == whoKnown || value != nil && json.Unmarshal(value, &used) == nil && used.Place == number
		if !stands || of == whoWrote && slices.Contains(writing, user) {
			continue // they are behind, by now
		}
		people++
		if of == whoKnown && (value != nil || slices.Contains(writing, user)) {
			continue // they stand in the other queue
		}
		stored, err := s.node.Read(s.ctx, nil, []string{peerKey(user, "")}) // with what cannot be read
		if err != nil {
			return nil, 0, ErrNotStored
		}
		maps.Copy(stored, known)
		for key := range stored {
			if key != peerKey(user, "lid") { // by which they are found under their other id
				gone = append(gone, Change{key, nil})
			}
		}
		if phone := string(known[peerKey(user, "pn")]); phone != "" {
			hidden, err := s.look(s.ctx, peerKey(phone, "lid"))
			if err != nil {
				return nil, 0, err
			}
			if hidden != nil && hiddenUser(types.NewJID(string(hidden), types.HiddenUserServer)) == user {
				gone = append(gone, Change{peerKey(phone, "lid"), nil})
			}
		}
	}
	return gone, people, nil
}

// expirePeople lets go who is too many or was not heard of for too long; before the device connects.
func (s *Store) expirePeople() error {
	s.usage.Lock()
	defer s.usage.Unlock()
	for _, of := range []string{whoWrote, whoKnown} {
		queue, err := s.queue(of)
		if err != nil {
			return err
		}
		before := queue
		gone, err := s.letPeopleGo(of, &queue, nil, peopleAtLogin)
		if err != nil {
			return err
		}
		if queue == before {
			continue
		}
		for piece := range slices.Chunk(append(gone, Change{queueKey(of), encode(queue)}), maxChanges) {
			s.apply(piece)
			if err := s.settle(piece, s.node.Write(encoded(piece))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) queue(of string) (queue queueRow, err error) {
	value, err := s.look(s.ctx, queueKey(of))
	if err != nil || value == nil {
		return queue, err
	}
	return queue, json.Unmarshal(value, &queue)
}
