package device

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// maxListedMembers is how many members the groups of one list are told with; of those beyond it nobody is, and who wants to
// know asks for the group.
const maxListedMembers = 50_000

// maxToldMembers is how many members are told of one group: more than any has but for communities' announcements.
const maxToldMembers = 10_000

var errNoAnswer = errors.New("the network's answer says nothing of it")

// A refused is the network's refusal of something, for a reason that its number alone does not tell.
type refused struct {
	error
	refusal internalv1.DeviceRefusal
}

func (r *refused) Unwrap() error { return r.error }

// groupAt is the group at an address.
func groupAt(named string) (types.JID, error) {
	group, err := address.Parse(named)
	if err != nil || group.Server != types.GroupServer {
		return group, &refused{fmt.Errorf("%s is no group", named), internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT}
	}
	return group, nil
}

// ofGroup says why the network refuses something about a group. It has numbers for what only administrators may and for what
// only members may, and does not always use them so: whoever is a member was refused as that.
func (d *Device) ofGroup(ctx context.Context, group types.JID, err error) error {
	switch codeOfQuery(err) {
	case 401, 403:
		refusal := internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_AN_ADMIN
		if _, cannot := d.client.GetGroupInfo(ctx, group); errors.Is(cannot, whatsmeow.ErrNotInGroup) {
			refusal = internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER
		}
		return &refused{err, refusal}
	case 404:
		return &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT}
	}
	return err
}

// listGroups says which groups and communities the account is in. It leaves what the library keeps of groups alone: of all of
// them at once that would be more than an account's part of the memory.
func (d *Device) listGroups(ctx context.Context, result *internalv1.DeviceCallResult) error {
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "get", types.GroupServerJID, waBinary.Node{
		Tag: "participating", Content: []waBinary.Node{{Tag: "participants"}, {Tag: "description"}},
	})
	if err != nil {
		return err
	}
	list, found := answer.GetOptionalChildByTag("groups")
	if !found {
		return errNoAnswer
	}
	announcements := map[string]string{}
	members := 0
	for _, node := range list.GetChildrenByTag("group") {
		group, err := d.readGroup(&node)
		if err != nil {
			d.log.write(levelWarning, "a group that cannot be read is passed over", "problem", err.Error())
			continue
		}
		if group.GetAnnouncements() {
			announcements[group.GetCommunity()] = group.GetAddress()
		}
		if members += len(group.GetMembers()); members > maxListedMembers {
			group.Members, group.MembersTold = nil, false
		}
		result.Groups = append(result.Groups, group)
	}
	for _, group := range result.GetGroups() {
		if group.GetParent() {
			group.AnnouncementGroup = announcements[group.GetAddress()]
		}
	}
	return nil
}

// getGroup says what a group is like, and who is in it.
func (d *Device) getGroup(ctx context.Context, named string, result *internalv1.DeviceCallResult) error {
	jid, err := groupAt(named)
	if err != nil {
		return err
	}
	group, err := d.lookAtGroup(ctx, jid)
	if err != nil {
		return err
	}
	result.Groups = []*internalv1.DeviceGroup{group}
	return nil
}

func (d *Device) lookAtGroup(ctx context.Context, jid types.JID) (*internalv1.DeviceGroup, error) {
	internals := d.client.DangerousInternals()
	answer, err := internals.SendGroupIQ(ctx, "get", jid, waBinary.Node{
		Tag: "query", Attrs: waBinary.Attrs{"request": "interactive"},
	})
	switch codeOfQuery(err) {
	case 403:
		return nil, &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER}
	case 404:
		return nil, &refused{err, internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT}
	}
	if err != nil {
		return nil, err
	}
	node, found := answer.GetOptionalChildByTag("group")
	if !found {
		return nil, errNoAnswer
	}
	info, err := internals.ParseGroupNode(&node)
	if err != nil {
		return nil, err
	}
	mappings, _ := internals.CacheGroupInfo(info, true)
	_ = d.store.PutManyLIDMappings(ctx, mappings)
	if info.DisappearingTimer <= longestTimer {
		_ = d.store.KeepTimer(ctx, jid, info.DisappearingTimer)
	}
	group := d.groupOf(info, &node)
	if group.GetParent() {
		linked, err := d.client.GetSubGroups(ctx, jid)
		if err != nil {
			return nil, err
		}
		for _, one := range linked {
			if one.IsDefaultSubGroup {
				group.AnnouncementGroup = address.Of(one.JID)
			}
		}
	}
	return group, nil
}

func (d *Device) readGroup(node *waBinary.Node) (*internalv1.DeviceGroup, error) {
	info, err := d.client.DangerousInternals().ParseGroupNode(node)
	if err != nil {
		return nil, err
	}
	return d.groupOf(info, node), nil
}

// groupOf is a group as the node wants it; node is where the library has read it from, and has some more.
func (d *Device) groupOf(info *types.GroupInfo, node *waBinary.Node) *internalv1.DeviceGroup {
	group := &internalv1.DeviceGroup{
		Address: address.Of(info.JID), Name: valid(info.Name), Description: valid(info.Topic), AnnounceOnly: info.IsAnnounce,
		Locked: info.IsLocked, JoinApproval: approvalOf(node, info.IsJoinApprovalRequired), MemberAddMode: addModeOf(string(info.MemberAddMode)),
		HistoryForNewMembers: contentOf(node, "member_share_group_history_mode") == "all_member_share", DisappearSeconds: info.DisappearingTimer,
		Creator: d.personOf(info.OwnerJID, info.OwnerPN), Parent: info.IsParent, Announcements: info.IsDefaultSubGroup,
		MembersTold: len(info.Participants) > 0,
	}
	if !info.GroupCreated.IsZero() {
		group.CreateTime = timestamppb.New(info.GroupCreated)
	}
	if !info.LinkedParentJID.IsEmpty() {
		group.Community = address.Of(info.LinkedParentJID)
	}
	var members []party
	var roles []sessionmeshv1.GroupRole
	for _, one := range info.Participants {
		if one.Error != 0 {
			continue
		}
		if d.isOwn(one.JID) {
			group.OwnRole = roleOf(one)
		}
		members, roles = append(members, party{one.JID, other(one)}), append(roles, roleOf(one))
	}
	if count := max(info.ParticipantCount, len(members)); count > 0 {
		group.MemberCount = proto.Uint32(uint32(count))
	}
	if len(members) > maxToldMembers {
		group.MembersTold = false
		return group
	}
	d.partiesOf(members, func(at int, person *internalv1.DeviceNamed) {
		group.Members = append(group.Members, &internalv1.DeviceMember{Person: person, Role: roles[at]})
	})
	return group
}

// other is a participant's other id than that which the group has them by.
func other(one types.GroupParticipant) types.JID {
	if one.JID.Server == types.HiddenUserServer {
		return one.PhoneNumber
	}
	return one.LID
}

func (d *Device) isOwn(jid types.JID) bool {
	if jid.Server == types.HiddenUserServer {
		return jid.User == d.client.Store.GetLID().User
	}
	return jid.User == d.client.Store.GetJID().User
}

// personOf is somebody by an address; nil: nobody is named.
func (d *Device) personOf(jid, other types.JID) *internalv1.DeviceNamed {
	if jid.IsEmpty() {
		if other.IsEmpty() {
			return nil
		}
		jid, other = other, jid
	}
	named := d.addressOf(jid, other)
	if named == "" {
		return nil
	}
	return &internalv1.DeviceNamed{Address: named, Identity: d.identityOf(jid, other, "")}
}

func roleOf(one types.GroupParticipant) sessionmeshv1.GroupRole {
	switch {
	case one.IsSuperAdmin:
		return sessionmeshv1.GroupRole_GROUP_ROLE_OWNER
	case one.IsAdmin:
		return sessionmeshv1.GroupRole_GROUP_ROLE_ADMIN
	}
	return sessionmeshv1.GroupRole_GROUP_ROLE_MEMBER
}

func addModeOf(mode string) sessionmeshv1.GroupMemberAddMode {
	switch types.GroupMemberAddMode(mode) {
	case types.GroupMemberAddModeAdmin:
		return sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_ADMINS
	case types.GroupMemberAddModeAllMember:
		return sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_EVERYONE
	}
	return sessionmeshv1.GroupMemberAddMode_GROUP_MEMBER_ADD_MODE_UNSPECIFIED
}

// approvalOf says whether joining needs consent: the library takes the node for it, whatever that says.
func approvalOf(node *waBinary.Node, is bool) bool {
	if node == nil {
		return is
	}
	mode, found := node.GetOptionalChildByTag("membership_approval_mode")
	if !found {
		return false
	}
	state, said := mode.GetOptionalChildByTag("group_join")
	return !said || state.Attrs["state"] != "off"
}

func contentOf(node *waBinary.Node, tag string) string {
	if node == nil {
		return ""
	}
	child := node.GetChildByTag(tag)
	text, _ := child.Content.([]byte)
	return string(text)
}

// forgetMembers has the library ask who is in a group before something is sent there again.
func (d *Device) forgetMembers(group types.JID) {
	lock := private(d.client, "groupCacheLock").Addr().Interface().(*sync.Mutex)
	lock.Lock()
	defer lock.Unlock()
	cache := private(d.client, "groupCache")
	cache.SetMapIndex(reflect.ValueOf(group), reflect.Value{})
}
