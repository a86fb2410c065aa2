package device

import (
	"context"
	"errors"

	"go.mau.fi/whatsmeow"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// maxGroupPicture is how large a picture may be, in bytes; the network's own are far smaller.
const maxGroupPicture = 1 << 20

// setGroupPicture has a group show a JPEG, or nothing any more.
func (d *Device) setGroupPicture(ctx context.Context, call *internalv1.SetGroupPictureCall, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	picture := call.GetPicture()
	if len(picture) == 0 {
		picture = nil
	}
	id, err := d.client.SetGroupPhoto(ctx, group, picture)
	if err != nil {
		return d.ofGroup(ctx, group, err)
	}
	if picture == nil {
		id = ""
	}
	result.GroupPicture = &internalv1.DeviceGroupPicture{PictureId: valid(id)}
	return nil
}

// getGroupPicture gives the picture that a group shows.
func (d *Device) getGroupPicture(ctx context.Context, call *internalv1.GetGroupPictureCall, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	info, err := d.client.GetProfilePictureInfo(ctx, group, &whatsmeow.GetProfilePictureParams{Preview: call.GetPreview()})
	if errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized) { // so it is of communities, which are asked for otherwise
		info, err = d.client.GetProfilePictureInfo(ctx, group, &whatsmeow.GetProfilePictureParams{Preview: call.GetPreview(), IsCommunity: true})
	}
	result.GroupPicture = &internalv1.DeviceGroupPicture{}
	switch {
	case errors.Is(err, whatsmeow.ErrProfilePictureNotSet):
		if _, err := d.client.GetGroupInfo(ctx, group); errors.Is(err, whatsmeow.ErrGroupNotFound) || errors.Is(err, whatsmeow.ErrNotInGroup) {
			return err
		}
		return nil
	case err != nil:
		return d.ofGroup(ctx, group, err)
	}
	data := &boundedBuffer{most: maxGroupPicture}
	if _, _, err = d.client.DangerousInternals().DownloadMediaToFile(toFile(ctx), info.URL, data); isGone(err) || data.over {
		return nil // it was changed meanwhile, or is none
	} else if err != nil {
		return err
	}
	result.GroupPicture.PictureId, result.GroupPicture.Data = valid(info.ID), data.Bytes()
	return nil
}
