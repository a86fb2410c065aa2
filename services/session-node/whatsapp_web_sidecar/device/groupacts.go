package device

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

const (
	// How far the network's clock may be behind.
	clocksApart = 5 * time.Minute
	// How often a description is set when somebody else sets one at the same time.
	describeTries = 3
)

// doWithGroups does what the node asks for of groups and communities; known: it was that.
func (d *Device) doWithGroups(ctx context.Context, call *internalv1.DeviceCall, result *internalv1.DeviceCallResult) (known bool, err error) {
	switch asked := call.GetCall().(type) {
	case *internalv1.DeviceCall_ListGroups:
		return true, d.listGroups(ctx, result)
	case *internalv1.DeviceCall_GetGroup:
		return true, d.getGroup(ctx, asked.GetGroup.GetGroup(), result)
	case *internalv1.DeviceCall_CreateGroup:
		return true, d.createGroup(ctx, asked.CreateGroup, result)
	case *internalv1.DeviceCall_ChangeGroup:
		return true, d.changeGroup(ctx, asked.ChangeGroup)
	case *internalv1.DeviceCall_SetGroupPicture:
		return true, d.setGroupPicture(ctx, asked.SetGroupPicture, result)
	case *internalv1.DeviceCall_GetGroupPicture:
		return true, d.getGroupPicture(ctx, asked.GetGroupPicture, result)
	case *internalv1.DeviceCall_ChangeMembers:
		return true, d.changeMembers(ctx, asked.ChangeMembers, result)
	case *internalv1.DeviceCall_LeaveGroup:
		return true, d.leaveGroup(ctx, asked.LeaveGroup)
	case *internalv1.DeviceCall_GroupInvite:
		return true, d.groupInvite(ctx, asked.GroupInvite, result)
	case *internalv1.DeviceCall_PreviewInvite:
		return true, d.previewInvite(ctx, asked.PreviewInvite, result)
	case *internalv1.DeviceCall_JoinGroup:
		return true, d.joinGroup(ctx, asked.JoinGroup, result)
	case *internalv1.DeviceCall_ListJoinRequests:
		return true, d.listJoinRequests(ctx, asked.ListJoinRequests.GetGroup(), result)
	case *internalv1.DeviceCall_AnswerJoinRequests:
		return true, d.answerJoinRequests(ctx, asked.AnswerJoinRequests, result)
	case *internalv1.DeviceCall_LinkGroup:
		return true, d.linkGroup(ctx, asked.LinkGroup)
	case *internalv1.DeviceCall_CommunityGroups:
		return true, d.communityGroups(ctx, asked.CommunityGroups.GetCommunity(), result)
	case *internalv1.DeviceCall_EndCommunity:
		return true, d.endCommunity(ctx, asked.EndCommunity.GetCommunity())
	}
	return false, nil
}

// createGroup makes a group or a community. What was asked for before with the same token was perhaps made by a sidecar that
// did not live to say so: then the account is in it, and it is found by its name and time.
func (d *Device) createGroup(ctx context.Context, call *internalv1.CreateGroupCall, result *internalv1.DeviceCallResult) error {
	earlier, err := d.store.Making(ctx, call.GetToken())
	if err != nil {
		return err
	}
	if earlier != nil {
		made, err := d.madeBefore(ctx, call, earlier)
		if err != nil {
			return err
		}
		if made != nil {
			result.Groups = []*internalv1.DeviceGroup{made}
			return d.store.HasMade(ctx, call.GetToken(), made.GetAddress())
		}
	}
	asked, who, err := d.creation(ctx, call)
	if err != nil {
		return err
	}
	made, err := d.client.CreateGroup(ctx, asked)
	if code := codeOfQuery(err); code != 0 {
		_ = d.store.NotMade(ctx, call.GetToken())
		if !asked.LinkedParentJID.IsEmpty() {
			return d.ofGroup(ctx, asked.LinkedParentJID, err)
		}
	}
	if err != nil {
		return err
	}
	group := d.groupOf(made, nil)
	group.JoinApproval = asked.IsJoinApprovalRequired
	if err := d.store.HasMade(ctx, call.GetToken(), group.GetAddress()); err != nil {
		return err
	}
	d.failed(made.JID, who, made.Participants, whatsmeow.ParticipantChangeAdd)
	if call.GetDescription() != "" {
		if err := d.describe(ctx, made.JID, call.GetDescription()); err != nil {
			d.log.write(levelWarning, "a new group has no description", "problem", err.Error())
		} else {
			group.Description = call.GetDescription()
		}
	}
	if call.GetParent() {
		if looked, err := d.lookAtGroup(ctx, made.JID); err == nil {
			group = looked
		}
	}
	result.Groups, result.MemberFailures = []*internalv1.DeviceGroup{group}, who.failures
	return nil
}

// madeBefore is the group that was made with a token; nil: none was.
func (d *Device) madeBefore(ctx context.Context, call *internalv1.CreateGroupCall, earlier *rows.Made) (*internalv1.DeviceGroup, error) {
	if earlier.Group != "" {
		group, err := groupAt(earlier.Group)
		if err != nil {
			return nil, err
		}
		return d.lookAtGroup(ctx, group)
	}
	var all internalv1.DeviceCallResult
	if err := d.listGroups(ctx, &all); err != nil {
		return nil, err
	}
	others, err := d.store.AllMade(ctx)
	if err != nil {
		return nil, err
	}
	since := time.Unix(earlier.Since, 0).Add(-clocksApart)
	for _, group := range all.GetGroups() {
		if group.GetOwnRole() == sessionmeshv1.GroupRole_GROUP_ROLE_OWNER && group.GetName() == call.GetName() && !group.GetAnnouncements() &&
			group.GetParent() == call.GetParent() && !group.GetCreateTime().AsTime().Before(since) && !others[group.GetAddress()] {
			return group, nil
		}
	}
	return nil, nil
}

// creation is what the library is asked to make, and who is to be in it.
func (d *Device) creation(ctx context.Context, call *internalv1.CreateGroupCall) (whatsmeow.ReqCreateGroup, *people, error) {
	asked := whatsmeow.ReqCreateGroup{Name: call.GetName()}
	rules := call.GetRules()
	asked.IsAnnounce, asked.IsLocked, asked.IsJoinApprovalRequired = rules.GetAnnounceOnly(), rules.GetLocked(), rules.GetJoinApproval()
	asked.DisappearingTimer, asked.IsEphemeral = rules.GetDisappearSeconds(), rules.GetDisappearSeconds() > 0
	if rules.GetMemberAddMode() == sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_ADMINS {
		asked.MemberAddMode = types.GroupMemberAddModeAdmin
	}
	asked.IsParent = call.GetParent()
	if call.GetCommunity() != "" {
		parent, err := groupAt(call.GetCommunity())
		if err != nil {
			return asked, nil, err
		}
		asked.LinkedParentJID = parent
	}
	who, err := d.peopleAt(ctx, call.GetMembers())
	if err == nil {
		asked.Participants = who.ids
	}
	return asked, who, err
}

// changeGroup changes what a group is called or how it behaves.
func (d *Device) changeGroup(ctx context.Context, call *internalv1.ChangeGroupCall) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	change := call.GetChange()
	switch {
	case change.Name != nil:
		err = d.client.SetGroupName(ctx, group, change.GetName())
	case change.Description != nil:
		err = d.describe(ctx, group, change.GetDescription())
	case change.AnnounceOnly != nil:
		err = d.client.SetGroupAnnounce(ctx, group, change.GetAnnounceOnly())
	case change.Locked != nil:
		err = d.client.SetGroupLocked(ctx, group, change.GetLocked())
	case change.JoinApproval != nil:
		err = d.client.SetGroupJoinApprovalMode(ctx, group, change.GetJoinApproval())
	case change.DisappearSeconds != nil:
		seconds := change.GetDisappearSeconds()
		if err = d.client.SetDisappearingTimer(ctx, group, time.Duration(seconds)*time.Second, time.Time{}); err == nil {
			err = d.store.KeepTimer(ctx, group, seconds)
		}
	case change.GetMemberAddMode() == sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_ADMINS:
		err = d.client.SetGroupMemberAddMode(ctx, group, types.GroupMemberAddModeAdmin)
	case change.GetMemberAddMode() != sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_UNSPECIFIED:
		err = d.client.SetGroupMemberAddMode(ctx, group, types.GroupMemberAddModeAllMember)
	default:
		return content.ErrUnsupported
	}
	return d.ofGroup(ctx, group, err)
}

// describe sets the description of a group. The network wants to know which one is replaced.
func (d *Device) describe(ctx context.Context, group types.JID, description string) (err error) {
	for range describeTries {
		var now *types.GroupInfo
		if now, err = d.client.GetGroupInfo(ctx, group); err != nil {
			return err
		}
		if now.Topic == description {
			return nil
		}
		if now.TopicID == "" {
			// The library would look for the one before once more, and find none.
			err = d.firstDescription(ctx, group, description)
		} else {
			err = d.client.SetGroupTopic(ctx, group, now.TopicID, "", description)
		}
		if codeOfQuery(err) != 409 {
			return err
		}
	}
	return err
}

func (d *Device) firstDescription(ctx context.Context, group types.JID, description string) error {
	_, err := d.client.DangerousInternals().SendGroupIQ(ctx, "set", group, waBinary.Node{
		Tag: "description", Attrs: waBinary.Attrs{"id": d.client.GenerateMessageID()},
		Content: []waBinary.Node{{Tag: "body", Content: []byte(description)}},
	})
	return err
}

// leaveGroup leaves a group, or a community with all of its groups.
func (d *Device) leaveGroup(ctx context.Context, call *internalv1.LeaveGroupCall) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	left := waBinary.Node{Tag: "group", Attrs: waBinary.Attrs{"id": group}}
	if call.GetParent() {
		left = waBinary.Node{Tag: "linked_groups", Attrs: waBinary.Attrs{"parent_group_jid": group}}
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "set", types.GroupServerJID, waBinary.Node{
		Tag: "leave", Content: []waBinary.Node{left},
	})
	d.forgetMembers(group)
	if err == nil {
		err = eachDone(answer.GetChildByTag("leave"))
	}
	switch codeOfQuery(err) {
	case 401, 403:
		return &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER}
	case 404:
		return &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT}
	}
	return err
}

// eachDone is the refusal that an answer has of one of the groups that it lists; nil: there is none.
func eachDone(list waBinary.Node) error {
	for _, one := range list.GetChildren() {
		attrs := one.AttrGetter()
		if code := attrs.OptionalInt("error"); code >= 400 {
			return &whatsmeow.IQError{Code: code, Text: "of one group"}
		}
	}
	return nil
}
