package device

import (
	"context"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// linkGroup links a group to a community, or takes it out of it. The network answers for each group, which the library passes
// over.
func (d *Device) linkGroup(ctx context.Context, call *internalv1.LinkGroupCall) error {
	community, err := groupAt(call.GetCommunity())
	if err != nil {
		return err
	}
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	groups := []waBinary.Node{{Tag: "group", Attrs: waBinary.Attrs{"jid": group}}}
	asked := waBinary.Node{Tag: "links", Content: []waBinary.Node{{
		Tag: "link", Attrs: waBinary.Attrs{"link_type": string(types.GroupLinkChangeTypeSub)}, Content: groups,
	}}}
	if call.GetUnlink() {
		asked = waBinary.Node{Tag: "unlink", Attrs: waBinary.Attrs{"unlink_type": string(types.GroupLinkChangeTypeSub)}, Content: groups}
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "set", community, asked)
	if err != nil {
		return d.ofGroup(ctx, community, err)
	}
	done := answer.GetChildByTag("links", "link")
	if call.GetUnlink() {
		done = answer.GetChildByTag("unlink")
	}
	if err = eachDone(done); err == nil {
		return nil
	}
	if linked, cannot := d.isLinked(ctx, community, group); cannot == nil && linked != call.GetUnlink() { // it is so already
		return nil
	}
	return d.ofGroup(ctx, group, err)
}

func (d *Device) isLinked(ctx context.Context, community, group types.JID) (bool, error) {
	linked, err := d.client.GetSubGroups(ctx, community)
	for _, one := range linked {
		if one.JID == group {
			return true, err
		}
	}
	return false, err
}

// communityGroups says which groups a community has.
func (d *Device) communityGroups(ctx context.Context, named string, result *internalv1.DeviceCallResult) error {
	community, err := groupAt(named)
	if err != nil {
		return err
	}
	answer, err := d.client.DangerousInternals().SendGroupIQ(ctx, "get", community, waBinary.Node{Tag: "sub_groups"})
	if err != nil {
		return d.ofGroup(ctx, community, err)
	}
	list := answer.GetChildByTag("sub_groups")
	for _, node := range list.GetChildrenByTag("group") {
		if group := linkedOf(&node); group != nil {
			result.CommunityGroups = append(result.CommunityGroups, group)
		}
	}
	return nil
}

// linkedOf is a group of a community as the network tells of it there; nil: it is not named.
func linkedOf(node *waBinary.Node) *internalv1.DeviceLinkedGroup {
	attrs := node.AttrGetter()
	jid := attrs.OptionalJIDOrEmpty("jid")
	if jid.IsEmpty() {
		jid = types.NewJID(attrs.OptionalString("id"), types.GroupServer)
	}
	named := address.Of(jid)
	if named == "" {
		return nil
	}
	group := &internalv1.DeviceLinkedGroup{Address: named, Name: valid(attrs.OptionalString("subject"))}
	_, group.Announcements = node.GetOptionalChildByTag("default_sub_group")
	if size := attrs.OptionalInt("size"); size > 0 {
		group.MemberCount = proto.Uint32(uint32(size))
	}
	return group
}

// endCommunity ends a community for everyone; its groups stay.
func (d *Device) endCommunity(ctx context.Context, named string) error {
	community, err := groupAt(named)
	if err != nil {
		return err
	}
	_, err = d.client.DangerousInternals().SendGroupIQ(ctx, "set", community, waBinary.Node{Tag: "delete_parent"})
	d.forgetMembers(community)
	return d.ofGroup(ctx, community, err)
}
