package device

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// manyContacts is how many entries of the address book may wait to be told of; of more, the latest are not.
const manyContacts = 100_000

// contactNews are entries of the address book that the node is told of, one after the other: the settings that they come
// from are the network's no longer, so none of them comes again.
type contactNews struct {
	mu      sync.Mutex
	waiting []*internalv1.DevicePersonChanged
	telling bool
}

// onContact tells of an entry of the address book. Of one that the phone has removed the library says nothing.
func (d *Device) onContact(said *events.Contact) {
	d.tellContact(said.JID, said.Timestamp, said.Action.GetFullName(), said.Action.GetFirstName())
}

// onContacts tells of the whole address book, which the phone gives after a pairing.
func (d *Device) onContacts(entries []store.ContactEntry) {
	for _, entry := range entries {
		d.tellContact(entry.JID, time.Now(), entry.FullName, entry.FirstName)
	}
}

func (d *Device) tellContact(person types.JID, at time.Time, fullName, firstName string) {
	if !address.IsPerson(person) || fullName == "" && firstName == "" {
		return
	}
	if fullName == "" {
		fullName = firstName
	}
	changed := d.personChanged(person, at)
	changed.Saved, changed.FullName, changed.FirstName = proto.Bool(true), valid(fullName), valid(firstName)
	news := &d.contactNews
	news.mu.Lock()
	defer news.mu.Unlock()
	if len(news.waiting) >= manyContacts {
		return
	}
	news.waiting = append(news.waiting, changed)
	if !news.telling {
		news.telling = true
		go d.contain(d.tellContacts)
	}
}

func (d *Device) tellContacts() {
	news := &d.contactNews
	for {
		news.mu.Lock()
		if len(news.waiting) == 0 || d.ctx.Err() != nil {
			news.telling, news.waiting = false, nil
			news.mu.Unlock()
			return
		}
		next := news.waiting[0]
		news.waiting = news.waiting[1:]
		news.mu.Unlock()
		d.tell(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_PersonChanged{PersonChanged: next}})
	}
}

// onPicture tells of a person's picture.
func (d *Device) onPicture(said *events.Picture) {
	if !address.IsPerson(said.JID) || said.PictureID == "" && !said.Remove {
		return
	}
	changed := d.personChanged(said.JID, said.Timestamp)
	changed.PictureId = proto.String(valid(said.PictureID))
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_PersonChanged{PersonChanged: changed}})
}

// onAbout tells of a person's text.
func (d *Device) onAbout(said *events.UserAbout) {
	changed := d.personChanged(said.JID, said.Timestamp)
	changed.About = proto.String(valid(said.Status))
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_PersonChanged{PersonChanged: changed}})
}

// onBlocklist tells of people whom another device has blocked, or blocks no more.
func (d *Device) onBlocklist(said *events.Blocklist) {
	for _, change := range said.Changes {
		changed := d.personChanged(change.JID, time.Now())
		changed.Blocked = proto.Bool(change.Action == events.BlocklistChangeActionBlock)
		d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_PersonChanged{PersonChanged: changed}})
	}
}

func (d *Device) personChanged(person types.JID, at time.Time) *internalv1.DevicePersonChanged {
	return &internalv1.DevicePersonChanged{
		Person: d.addressOf(person, types.EmptyJID), Identity: d.identityOf(person, types.EmptyJID, ""), Time: timestamppb.New(at),
	}
}
