package device

import (
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// both are a person's ids by number and hidden, as far as either is known.
func (d *Device) both(jid, other types.JID) (number, hidden types.JID) {
	for _, id := range []types.JID{jid, other} {
		switch id.Server {
		case types.DefaultUserServer, types.HostedServer, types.LegacyUserServer:
			number = types.NewJID(id.User, types.DefaultUserServer)
		case types.HiddenUserServer, types.HostedLIDServer:
			hidden = types.NewJID(id.User, types.HiddenUserServer)
		}
	}
	if number.IsEmpty() && !hidden.IsEmpty() {
		number, _ = d.store.GetPNForLID(d.ctx, hidden)
	} else if hidden.IsEmpty() && !number.IsEmpty() {
		hidden, _ = d.store.GetLIDForPN(d.ctx, number)
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
