package content

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

func invite(out *waE2E.Message, invite *sessionmeshv1.GroupInviteContent, context *waE2E.ContextInfo) error {
	group, err := address.Parse(invite.GetGroup())
	if err != nil {
		return fmt.Errorf("%w: the group has no address", ErrInvalid)
	}
	out.GroupInviteMessage = &waE2E.GroupInviteMessage{
		GroupJID: proto.String(group.String()), InviteCode: proto.String(invite.GetCode()),
		GroupName: proto.String(invite.GetGroupName()), Caption: optional(invite.GetCaption()), ContextInfo: context,
	}
	if invite.GetExpireTime() != nil {
		out.GroupInviteMessage.InviteExpiration = proto.Int64(invite.GetExpireTime().GetSeconds())
	}
	return nil
}

func appointment(event *sessionmeshv1.AppointmentContent, context *waE2E.ContextInfo) *waE2E.EventMessage {
	out := &waE2E.EventMessage{
		Name: proto.String(event.GetName()), Description: optional(event.GetDescription()), JoinLink: optional(event.GetJoinUrl()),
		StartTime: proto.Int64(event.GetStartTime().GetSeconds()), IsCanceled: proto.Bool(event.GetCancelled()), ContextInfo: context,
	}
	if event.GetEndTime() != nil {
		out.EndTime = proto.Int64(event.GetEndTime().GetSeconds())
	}
	if event.GetLocation() != nil {
		out.Location = location(event.GetLocation(), nil)
	}
	return out
}
