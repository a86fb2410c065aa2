package device

import (
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// both are a person's ids by number and hidden, as far as either is known.
func (d *Device) both(jid, other types.JID) (number, hidden types.JID) {
	number, hidden = idsIn(jid, other)
	if number.IsEmpty() && !hidden.IsEmpty() {
		number, _ = d.store.GetPNForLID(d.ctx, hidden)
	} else if hidden.IsEmpty() && !number.IsEmpty() {
		hidden, _ = d.store.GetLIDForPN(d.ctx, number)
	}
	return number, hidden
}

// idsIn are those of the two that are ids by number and hidden.
func idsIn(jid, other types.JID) (number, hidden types.JID) {
	for _, id := range []types.JID{jid, other} {
		switch id.Server {
		case types.DefaultUserServer, types.HostedServer, types.LegacyUserServer:
			number = types.NewJID(id.User, types.DefaultUserServer)
		case types.HiddenUserServer, types.HostedLIDServer:
			hidden = types.NewJID(id.User, types.HiddenUserServer)
		}
	}
	return number, hidden
}

// addressOf is the address of a person or a chat: by number where that is known.
func (d *Device) addressOf(jid, other types.JID) string {
	if !address.IsPerson(jid) {
		return address.Of(jid)
	}
	number, hidden := d.both(jid, other)
	if named := address.Of(number); named != "" {
		return named
	}
	if named := address.Of(hidden); named != "" {
		return named
	}
	return address.Of(jid)
}

func (d *Device) identityOf(jid, other types.JID, name string) *internalv1.DeviceIdentity {
	number, hidden := d.both(jid, other)
	identity := &internalv1.DeviceIdentity{UserId: number.User, HiddenId: hidden.User, PushName: name}
	if number.User != "" {
		identity.Phone = "+" + number.User
	}
	return identity
}

func (d *Device) ownIdentity() *internalv1.DeviceIdentity {
	return d.identityOf(d.client.Store.GetJID(), d.client.Store.GetLID(), d.client.Store.PushName)
}

// party is somebody by the ids that are told of them; either may be empty.
type party struct{ jid, other types.JID }

// partiesOf are people by an address; what is known of all of them is read at once. Whoever has no address is left out, with
// told called for the others by their place.
func (d *Device) partiesOf(people []party, told func(at int, person *internalv1.DeviceNamed)) {
	var hidden, numbers []types.JID
	for _, one := range people {
		number, lid := idsIn(one.jid, one.other)
		if number.IsEmpty() && !lid.IsEmpty() {
			hidden = append(hidden, lid)
		} else if lid.IsEmpty() && !number.IsEmpty() {
			numbers = append(numbers, number)
		}
	}
	numberOf, _ := d.store.GetManyPNsForLIDs(hidden) // of whom that cannot be read the other id is known
	hiddenOf, _ := d.store.GetManyLIDsForPNs(d.ctx, numbers)
	for at, one := range people {
		number, lid := idsIn(one.jid, one.other)
		if number.IsEmpty() {
			number = numberOf[lid]
		}
		if lid.IsEmpty() {
			lid = hiddenOf[number]
		}
		named := address.Of(number)
		if named == "" {
			named = address.Of(lid)
		}
		if named == "" {
			continue
		}
		identity := &internalv1.DeviceIdentity{UserId: number.User, HiddenId: lid.User}
		if number.User != "" {
			identity.Phone = "+" + number.User
		}
		told(at, &internalv1.DeviceNamed{Address: named, Identity: identity})
	}
}
