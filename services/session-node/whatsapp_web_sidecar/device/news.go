package device

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// onContact tells of an entry of the address book; false: that is not stored. Of one that the phone has removed the library says nothing.
func (d *Device) onContact(said *events.Contact) bool {
	fullName, firstName := said.Action.GetFullName(), said.Action.GetFirstName()
	if !address.IsPerson(said.JID) || fullName == "" && firstName == "" {
		return true
	}
	if fullName == "" {
		fullName = firstName
	}
	changed := d.personChanged(said.JID, said.Timestamp)
	changed.Saved, changed.FullName, changed.FirstName = proto.Bool(true), valid(fullName), valid(firstName)
	return d.tell(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_PersonChanged{PersonChanged: changed}})
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
