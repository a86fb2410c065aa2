package network_test

import (
	"errors"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// community is one that a client has made, and its group for announcements.
func (c *linked) community() (parent, announcements types.JID) {
	c.t.Helper()
	parent = c.foundedAs(whatsmeow.ReqCreateGroup{Name: "Street", GroupParent: types.GroupParent{IsParent: true}}).JID
	groups, err := c.GetSubGroups(ctx, parent)
	if err != nil || len(groups) != 1 || !groups[0].IsDefaultSubGroup || groups[0].Name != "Street" {
		c.t.Fatal(groups, err)
	}
	return parent, groups[0].JID
}

func TestACommunityIsMadeWithItsAnnouncements(t *testing.T) {
	n := start(t)
	a := paired(t, n, alice)
	parent, announcements := a.community()
	if got := a.group(parent); !got.IsParent || !got.Participants[0].IsSuperAdmin {
		t.Fatalf("%+v", got)
	}
	if got := a.group(announcements); got.LinkedParentJID != parent || !got.IsDefaultSubGroup || !got.IsAnnounce {
		t.Fatalf("%+v", got)
	}
	if _, err := a.sayTo(parent, said("hello")); err == nil {
		t.Fatal("somebody wrote to a community itself")
	}
}

func TestWhoIsInAGroupIsInItsCommunity(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	parent, announcements := a.community()
	group := a.founded(bob).JID
	next(b, func(e *events.JoinedGroup) bool { return e.JID == group })
	if err := a.LinkGroup(ctx, parent, group); err != nil {
		t.Fatal(err)
	}
	linked := next(b, func(e *events.GroupInfo) bool { return e.Link != nil && e.JID == group })
	if linked.Link.Type != types.GroupLinkChangeTypeParent || linked.Link.Group.JID != parent {
		t.Fatalf("%+v", linked.Link)
	}
	next(b, func(e *events.JoinedGroup) bool { return e.JID == parent && e.IsParent })
	next(b, func(e *events.JoinedGroup) bool { return e.JID == announcements })
	if got := b.group(group); got.LinkedParentJID != parent {
		t.Fatalf("%+v", got)
	}
	if people, err := a.GetLinkedGroupsParticipants(ctx, parent); err != nil || len(people) != 2 {
		t.Fatal(people, err)
	}
	if err := b.LinkGroup(ctx, parent, group); !errors.Is(err, whatsmeow.ErrIQNotAuthorized) && err != nil {
		t.Fatal(err)
	}
	if err := a.UnlinkGroup(ctx, parent, group); err != nil {
		t.Fatal(err)
	}
	if unlinked := next(b, func(e *events.GroupInfo) bool { return e.Unlink != nil && e.JID == group }); unlinked.Unlink.UnlinkReason != types.GroupUnlinkReasonDefault {
		t.Fatalf("%+v", unlinked.Unlink)
	}
	if got := a.group(group); !got.LinkedParentJID.IsEmpty() || len(got.Participants) != 2 {
		t.Fatalf("%+v", got)
	}
}

func TestAGroupIsMadeWithinACommunity(t *testing.T) {
	n := start(t)
	a := paired(t, n, alice)
	parent, _ := a.community()
	group := a.foundedAs(whatsmeow.ReqCreateGroup{Name: "Tea", GroupLinkedParent: types.GroupLinkedParent{LinkedParentJID: parent}}, bob)
	if group.LinkedParentJID != parent {
		t.Fatalf("%+v", group)
	}
	if groups, err := a.GetSubGroups(ctx, parent); err != nil || len(groups) != 2 || groups[1].JID != group.JID {
		t.Fatal(groups, err)
	}
}

func TestWhoEndsACommunityLeavesItsGroupsAlone(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	parent, announcements := a.community()
	group := a.founded(bob).JID
	if err := a.LinkGroup(ctx, parent, group); err != nil {
		t.Fatal(err)
	}
	end := func(c *linked) error {
		_, err := c.DangerousInternals().SendGroupIQ(ctx, "set", parent, node("delete_parent"))
		return err
	}
	if err := end(b); !errors.Is(err, whatsmeow.ErrIQNotAuthorized) {
		t.Fatal(err)
	}
	if err := end(a); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []types.JID{parent, announcements} {
		if told := next(b, func(e *events.GroupInfo) bool { return e.JID == gone && e.Delete != nil }); told.Delete.DeleteReason != "delete_parent" {
			t.Fatalf("%+v", told.Delete)
		}
		if _, err := a.GetGroupInfo(ctx, gone); !errors.Is(err, whatsmeow.ErrGroupNotFound) {
			t.Fatal(err)
		}
	}
	if got := b.group(group); !got.LinkedParentJID.IsEmpty() || len(got.Participants) != 2 {
		t.Fatalf("%+v", got)
	}
}

func TestWhoLeavesACommunityLeavesItsGroups(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	parent, announcements := a.community()
	group := a.founded(bob).JID
	if err := a.LinkGroup(ctx, parent, group); err != nil {
		t.Fatal(err)
	}
	leave := node("leave", node("linked_groups"))
	leave.GetChildren()[0].Attrs["parent_group_jid"] = parent
	if _, err := b.DangerousInternals().SendGroupIQ(ctx, "set", types.GroupServerJID, leave); err != nil {
		t.Fatal(err)
	}
	for _, jid := range []types.JID{parent, announcements, group} {
		if got := a.group(jid); len(got.Participants) != 1 {
			t.Fatalf("%+v", got)
		}
	}
}

func node(tag string, children ...waBinary.Node) waBinary.Node {
	made := waBinary.Node{Tag: tag, Attrs: map[string]any{}}
	if len(children) > 0 {
		made.Content = children
	}
	return made
}
