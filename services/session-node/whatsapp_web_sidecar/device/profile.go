package device

import (
	"context"
	"errors"
	"fmt"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
)

var errNotSaid = errors.New("the network does not say it")

// getProfile says what the account itself shows.
func (d *Device) getProfile(ctx context.Context, result *internalv1.DeviceCallResult) error {
	own := d.client.Store.GetJID().ToNonAD()
	said, err := d.ask(ctx, []types.JID{own}, waBinary.Node{Tag: "status"}, waBinary.Node{Tag: "picture"})
	if err != nil {
		return err
	}
	user, there := said[own]
	if !there {
		return errNotSaid
	}
	profile := &internalv1.DeviceProfile{PushName: d.client.Store.PushName, About: textIn(user, "status")}
	profile.PictureId, _ = user.GetChildByTag("picture").Attrs["id"].(string)
	result.Profile = profile
	return nil
}

// changeProfile changes what the account itself shows.
func (d *Device) changeProfile(ctx context.Context, call *internalv1.ChangeProfileCall) error {
	if call.PushName != nil {
		if err := d.share(ctx, appstate.BuildSettingPushName(call.GetPushName())); err != nil {
			return err
		}
	}
	if call.About != nil {
		about := call.GetAbout()
		if err := d.client.SetStatusMessage(ctx, types.SetStatusInput{Text: &about}); err != nil {
			return err
		}
	}
	if call.Picture != nil {
		picture := call.GetPicture()
		if len(picture) == 0 {
			picture = nil
		}
		if _, err := d.client.SetGroupPhoto(ctx, types.EmptyJID, picture); err != nil {
			if errors.Is(err, whatsmeow.ErrInvalidImageFormat) {
				return fmt.Errorf("%w: the network does not take the picture", content.ErrInvalid)
			}
			return err
		}
	}
	return nil
}
