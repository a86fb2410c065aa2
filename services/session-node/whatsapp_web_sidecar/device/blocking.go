package device

import (
	"context"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// setBlocked blocks a person, or blocks them no more.
func (d *Device) setBlocked(ctx context.Context, call *internalv1.SetBlockedCall) error {
	person, err := address.Parse(call.GetPerson())
	if err != nil {
		return errUnknownRecipient
	}
	if person, err = d.lookUp(person); err != nil {
		return err
	}
	action := events.BlocklistChangeActionUnblock
	if call.GetBlocked() {
		action = events.BlocklistChangeActionBlock
	}
	if _, err = d.client.UpdateBlocklist(ctx, person, action); codeOfQuery(err) == 404 {
		return errUnknownRecipient
	}
	return err
}

// listBlocked says whom the account has blocked. Somebody whose hidden id alone is known is named by that.
func (d *Device) listBlocked(ctx context.Context, result *internalv1.DeviceCallResult) error {
	list, err := d.client.GetBlocklist(ctx)
	if err != nil {
		return err
	}
	for _, person := range list.JIDs {
		result.Blocked = append(result.Blocked, d.identityOf(person, types.EmptyJID, ""))
	}
	return nil
}
