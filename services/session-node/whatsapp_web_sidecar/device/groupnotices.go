package device

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// How people come into a group, by the network's word for why they are added.
var joinReasons = map[string]sessionmeshv1.GroupJoinMethod{
	"invite":                      sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_INVITE_LINK,
	"linked_group_join":           sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
	"default_sub_group_admin_add": sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
	"default_sub_group_invite":    sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
	"default_sub_group_promotion": sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
	"auto_add":                    sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_COMMUNITY,
}

// handleGroup remembers the notification of a group that is being handled: the library does not tell all that it says.
func (d *Device) handleGroup(node *waBinary.Node) func() {
	if node.Tag != "notification" || node.Attrs["type"] != "w:gp2" {
		return func() {}
	}
	d.group.Store(node)
	return func() { d.group.Store(nil) }
}

// onJoined tells of a group that the account is in now.
func (d *Device) onJoined(said *events.JoinedGroup) {
	node := d.group.Load()
	var inner *waBinary.Node
	at := timestamppb.Now()
	if node != nil {
		attrs := node.AttrGetter()
		if told := attrs.OptionalUnixTime("t"); !told.IsZero() {
			at = timestamppb.New(told)
		}
		if group, found := node.GetOptionalChildByTag("create", "group"); found {
			inner = &group
		}
	}
	if said.DisappearingTimer <= longestTimer {
		_ = d.store.KeepTimer(d.ctx, said.JID, said.DisappearingTimer)
	}
	d.forgetMembers(said.JID) // it may be of long ago: who is a member now, the network is asked
	entered := &internalv1.DeviceGroupEntered{
		Group: d.groupOf(&said.GroupInfo, inner), Time: at, Actor: d.actor(said.Sender, said.SenderPN),
	}
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_GroupEntered{GroupEntered: entered}})
}

// onGroup tells of all that somebody has changed of a group at once.
func (d *Device) onGroup(said *events.GroupInfo) {
	group := address.Of(said.JID)
	if group == "" {
		return
	}
	if timer := said.Ephemeral; timer != nil && timer.DisappearingTimer <= longestTimer {
		_ = d.store.KeepTimer(d.ctx, said.JID, timer.DisappearingTimer)
	}
	if len(said.Join) > 0 || len(said.Leave) > 0 {
		d.forgetMembers(said.JID)
	}
	node := d.group.Load()
	for _, change := range changesOfGroup(said, node) {
		d.changed(group, change, said.Timestamp, d.actor(said.Sender, said.SenderPN))
	}
	d.onMembers(said, group, node)
	d.onLinks(said, group)
	for _, unknown := range said.UnknownChanges {
		d.onRequests(said, group, unknown)
	}
	if said.Delete != nil {
		d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_CommunityEnded{CommunityEnded: &internalv1.DeviceCommunityEnded{
			Community: group, Time: timestamppb.New(said.Timestamp), Actor: d.actor(said.Sender, said.SenderPN),
		}}})
	}
}

func (d *Device) changed(group string, change *internalv1.DeviceGroupChange, at time.Time, actor *internalv1.DeviceNamed) {
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_GroupChanged{GroupChanged: &internalv1.DeviceGroupChanged{
		Group: group, Time: timestamppb.New(at), Actor: actor, Change: change,
	}}})
}

func (d *Device) actor(sender, number *types.JID) *internalv1.DeviceNamed {
	var jid, other types.JID
	if sender != nil {
		jid = *sender
	}
	if number != nil {
		other = *number
	}
	return d.personOf(jid, other)
}

// changesOfGroup is what is otherwise now, each by itself.
func changesOfGroup(said *events.GroupInfo, node *waBinary.Node) []*internalv1.DeviceGroupChange {
	var changes []*internalv1.DeviceGroupChange
	note := func(change *internalv1.DeviceGroupChange) { changes = append(changes, change) }
	if said.Name != nil {
		note(&internalv1.DeviceGroupChange{Name: proto.String(valid(said.Name.Name))})
	}
	if said.Topic != nil {
		note(&internalv1.DeviceGroupChange{Description: proto.String(valid(said.Topic.Topic))})
	}
	if said.Announce != nil {
		note(&internalv1.DeviceGroupChange{AnnounceOnly: proto.Bool(said.Announce.IsAnnounce)})
	}
	if said.Locked != nil {
		note(&internalv1.DeviceGroupChange{Locked: proto.Bool(said.Locked.IsLocked)})
	}
	if said.MembershipApprovalMode != nil {
		note(&internalv1.DeviceGroupChange{JoinApproval: proto.Bool(approvalOf(node, said.MembershipApprovalMode.IsJoinApprovalRequired))})
	}
	if said.Ephemeral != nil {
		note(&internalv1.DeviceGroupChange{DisappearSeconds: proto.Uint32(said.Ephemeral.DisappearingTimer)})
	}
	if said.Link != nil && said.Link.Type == types.GroupLinkChangeTypeParent {
		note(&internalv1.DeviceGroupChange{Community: proto.String(address.Of(said.Link.Group.JID))})
	}
	if said.Unlink != nil && said.Unlink.Type == types.GroupLinkChangeTypeParent {
		note(&internalv1.DeviceGroupChange{Community: proto.String("")})
	}
	for _, unknown := range said.UnknownChanges {
		text, _ := unknown.Content.([]byte)
		switch unknown.Tag {
		case "member_add_mode":
			note(&internalv1.DeviceGroupChange{MemberAddMode: addModeOf(string(text))})
		case "member_share_group_history_mode":
			note(&internalv1.DeviceGroupChange{HistoryForNewMembers: proto.Bool(string(text) == "all_member_share")})
		}
	}
	return changes
}

// onMembers tells who came, went or may do something else now.
func (d *Device) onMembers(said *events.GroupInfo, group string, node *waBinary.Node) {
	tell := func(change sessionmeshv1.GroupMemberChange, people []types.JID, method sessionmeshv1.GroupJoinMethod, reason string) {
		if len(people) == 0 {
			return
		}
		changed := &internalv1.DeviceMembersChanged{
			Group: group, Time: timestamppb.New(said.Timestamp), Actor: d.actor(said.Sender, said.SenderPN), Change: change,
			Method: method, Reason: valid(reason),
		}
		var members []party
		for _, jid := range people[:min(len(people), maxToldMembers)] {
			members = append(members, party{jid: jid})
		}
		d.partiesOf(members, func(_ int, person *internalv1.DeviceNamed) { changed.Members = append(changed.Members, person) })
		d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_MembersChanged{MembersChanged: changed}})
	}
	method := joinReasons[said.JoinReason]
	came := sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_ADDED
	if method == sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_UNSPECIFIED {
		method = sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_ADDED
	}
	if byThemselves(said, said.Join) {
		came = sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_JOINED
	}
	went := sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_REMOVED
	if byThemselves(said, said.Leave) {
		went = sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_LEFT
	}
	const none = sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_UNSPECIFIED
	tell(came, said.Join, method, said.JoinReason)
	tell(went, said.Leave, none, reasonOf(node, "remove"))
	tell(sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_PROMOTED, said.Promote, none, reasonOf(node, "promote"))
	tell(sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_DEMOTED, said.Demote, none, reasonOf(node, "demote"))
}

func reasonOf(node *waBinary.Node, tag string) string {
	if node == nil {
		return ""
	}
	child := node.GetChildByTag(tag)
	return child.AttrGetter().OptionalString("reason")
}

// byThemselves says whether somebody came or went who is the one that did it.
func byThemselves(said *events.GroupInfo, people []types.JID) bool {
	if len(people) != 1 || said.Sender == nil {
		return false
	}
	is := func(jid *types.JID) bool {
		return jid != nil && jid.Server == people[0].Server && jid.User == people[0].User
	}
	return is(said.Sender) || is(said.SenderPN)
}

// onLinks tells which groups a community has more, or less.
func (d *Device) onLinks(said *events.GroupInfo, community string) {
	changed := &internalv1.DeviceCommunityGroupsChanged{
		Community: community, Time: timestamppb.New(said.Timestamp), Actor: d.actor(said.Sender, said.SenderPN),
	}
	if said.Link != nil && said.Link.Type == types.GroupLinkChangeTypeSub {
		changed.Linked = append(changed.Linked, targetOf(said.Link.Group))
	}
	if said.Unlink != nil && said.Unlink.Type == types.GroupLinkChangeTypeSub {
		changed.Unlinked = append(changed.Unlinked, targetOf(said.Unlink.Group))
	}
	if len(changed.GetLinked())+len(changed.GetUnlinked()) > 0 {
		d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_CommunityGroupsChanged{CommunityGroupsChanged: changed}})
	}
}

func targetOf(group types.GroupLinkTarget) *internalv1.DeviceLinkedGroup {
	return &internalv1.DeviceLinkedGroup{
		Address: address.Of(group.JID), Name: valid(group.Name), Announcements: group.IsDefaultSubGroup,
	}
}

// onRequests tells who asks to join a group, or does not any more.
func (d *Device) onRequests(said *events.GroupInfo, group string, change *waBinary.Node) {
	withdrawn := change.Tag == "revoked_membership_requests"
	if !withdrawn && change.Tag != "created_membership_requests" {
		return
	}
	attrs := change.AttrGetter()
	method := joinMethods[attrs.OptionalString("request_method")]
	for _, child := range change.GetChildren() {
		who := child.AttrGetter()
		request := &internalv1.DeviceJoinRequest{
			Requester: d.personOf(who.OptionalJIDOrEmpty("jid"), who.OptionalJIDOrEmpty("phone_number")),
			Time:      timestamppb.New(said.Timestamp), Method: method,
		}
		if request.GetRequester() == nil {
			continue
		}
		if !withdrawn && method == sessionmeshv1.GroupJoinMethod_GROUP_JOIN_METHOD_ADDED {
			request.AddedBy = d.actor(said.Sender, said.SenderPN)
		}
		d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_JoinRequested{JoinRequested: &internalv1.DeviceJoinRequested{
			Group: group, Request: request, Withdrawn: withdrawn,
		}}})
	}
}

// onGroupPicture tells that a group shows another picture, or none any more.
func (d *Device) onGroupPicture(said *events.Picture) {
	group := address.Of(said.JID)
	if group == "" {
		return
	}
	change := &internalv1.DeviceGroupChange{PictureId: proto.String("")}
	if !said.Remove {
		change.PictureId = proto.String(valid(said.PictureID))
	}
	d.changed(group, change, said.Timestamp, d.personOf(said.Author, types.EmptyJID))
}
