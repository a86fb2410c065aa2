package device

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// groupInvite is the invite link of a group, or a new one.
func (d *Device) groupInvite(ctx context.Context, call *internalv1.GroupInviteCall, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	link, err := d.client.GetGroupInviteLink(ctx, group, call.GetReset_())
	if err != nil {
		return d.ofGroup(ctx, group, err)
	}
	result.InviteLink = &internalv1.DeviceInviteLink{Code: strings.TrimPrefix(link, whatsmeow.InviteLinkPrefix), Url: link}
	return nil
}

// invited is who invites the account where, by an invite in a message.
func (d *Device) invited(invitation *internalv1.DeviceInvitation) (group, inviter types.JID, until int64, err error) {
	if group, err = groupAt(invitation.GetGroup()); err != nil {
		return group, inviter, 0, err
	}
	if inviter, err = address.Parse(invitation.GetInviter()); err != nil {
		return group, inviter, 0, errUnknownRecipient
	}
	if invitation.GetExpireTime() != nil {
		until = invitation.GetExpireTime().AsTime().Unix()
	}
	return group, inviter, until, nil
}

// ofInvite says why the network refuses an invite.
func ofInvite(err error) error {
	switch codeOfQuery(err) {
	case 404, 406, 410: // no such code, or not any more
		return &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_INVITE_ENDED}
	case 401, 403: // whoever was removed does not come back by a link
		return &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_ALLOWED_BY_PERSON}
	}
	return err
}

// previewInvite says what the network shows of the group that an invite leads to.
func (d *Device) previewInvite(ctx context.Context, call *internalv1.FollowInviteCall, result *internalv1.DeviceCallResult) error {
	to, asked := types.GroupServerJID, waBinary.Node{Tag: "invite", Attrs: waBinary.Attrs{"code": codeIn(call.GetCode())}}
	if invitation := call.GetInvitation(); invitation != nil {
		group, inviter, until, err := d.invited(invitation)
		if err != nil {
			return err
		}
		to, asked = group, waBinary.Node{Tag: "query", Content: []waBinary.Node{{
			Tag: "add_request", Attrs: waBinary.Attrs{"code": invitation.GetCode(), "expiration": until, "admin": inviter},
		}}}
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "get", to, asked)
	if err != nil {
		return ofInvite(err)
	}
	node, found := answer.GetOptionalChildByTag("group")
	if !found {
		return errNoAnswer
	}
	group, err := d.readGroup(&node)
	if err != nil {
		return err
	}
	if group.GetOwnRole() == sessionmeshv1.GroupRole_GROUP_ROLE_UNSPECIFIED { // what is shown of them is not all
		group.Members, group.MembersTold = nil, false
	}
	result.Groups = []*internalv1.DeviceGroup{group}
	return nil
}

// joinGroup joins by an invite.
func (d *Device) joinGroup(ctx context.Context, call *internalv1.FollowInviteCall, result *internalv1.DeviceCallResult) error {
	to, asked := types.GroupServerJID, waBinary.Node{Tag: "invite", Attrs: waBinary.Attrs{"code": codeIn(call.GetCode())}}
	var joined types.JID
	if invitation := call.GetInvitation(); invitation != nil {
		group, inviter, until, err := d.invited(invitation)
		if err != nil {
			return err
		}
		joined, to = group, group
		asked = waBinary.Node{Tag: "accept", Attrs: waBinary.Attrs{"code": invitation.GetCode(), "expiration": until, "admin": inviter}}
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "set", to, asked)
	if codeOfQuery(err) == 409 { // a member already
		var seen internalv1.DeviceCallResult
		if err := d.previewInvite(ctx, call, &seen); err != nil {
			return err
		}
		result.Joined = &internalv1.DeviceJoined{Group: seen.GetGroups()[0].GetAddress()}
		return nil
	}
	if err != nil {
		return ofInvite(err)
	}
	asks, pending := answer.GetOptionalChildByTag("membership_approval_request")
	if joined.IsEmpty() {
		of := asks
		if !pending {
			of = answer.GetChildByTag("group")
		}
		joined = of.AttrGetter().OptionalJIDOrEmpty("jid")
	}
	if joined.IsEmpty() {
		return errNoAnswer
	}
	d.forgetMembers(joined)
	result.Joined = &internalv1.DeviceJoined{Group: address.Of(joined), Pending: pending}
	return nil
}

func codeIn(link string) string { return strings.TrimPrefix(link, whatsmeow.InviteLinkPrefix) }

var joinMethods = map[string]sessionmeshv1.GroupJoinMethod{
	"invite_link":       sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_INVITE_LINK,
	"linked_group_join": sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
	"non_admin_add":     sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_ADDED,
}

// listJoinRequests says who asks to join a group.
func (d *Device) listJoinRequests(ctx context.Context, named string, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(named)
	if err != nil {
		return err
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "get", group, waBinary.Node{Tag: "membership_approval_requests"})
	if err != nil {
		return d.ofGroup(ctx, group, err)
	}
	list := answer.GetChildByTag("membership_approval_requests")
	for _, node := range list.GetChildrenByTag("membership_approval_request") {
		attrs := node.AttrGetter()
		request := &internalv1.DeviceJoinRequest{
			Requester: d.personOf(attrs.OptionalJIDOrEmpty("jid"), attrs.OptionalJIDOrEmpty("phone_number")),
			Method:    joinMethods[attrs.OptionalString("request_method")],
			AddedBy:   d.personOf(attrs.OptionalJIDOrEmpty("requestor"), attrs.OptionalJIDOrEmpty("requestor_pn")),
		}
		if since := attrs.OptionalUnixTime("request_time"); !since.IsZero() {
			request.Time = timestamppb.New(since)
		}
		if request.GetRequester() != nil {
			result.JoinRequests = append(result.JoinRequests, request)
		}
	}
	return nil
}

// answerJoinRequests takes or refuses people who ask to join a group.
func (d *Device) answerJoinRequests(ctx context.Context, call *internalv1.AnswerJoinRequestsCall, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	who, err := d.peopleAt(ctx, call.GetPeople())
	if err != nil {
		return err
	}
	action := whatsmeow.ParticipantChangeReject
	if call.GetApprove() {
		action = whatsmeow.ParticipantChangeApprove
	}
	if len(who.ids) > 0 {
		done, err := d.client.UpdateGroupRequestParticipants(ctx, group, d.as(group, who.ids), action)
		d.forgetMembers(group)
		if err != nil {
			return d.ofGroup(ctx, group, err)
		}
		d.failed(group, who, done, whatsmeow.ParticipantChangeAdd)
	}
	result.MemberFailures = who.failures
	return nil
}
