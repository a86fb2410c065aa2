package network_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"sessionmesh.dev/whatsapp-web-network/network"
)

const dora = "+491510000004"

var ctx = context.Background()

func jidOf(phone string) types.JID { return types.NewJID(phone[1:], types.DefaultUserServer) }

// founded is a group that a client has made with some people.
func (c *linked) founded(people ...string) *types.GroupInfo {
	c.t.Helper()
	return c.foundedAs(whatsmeow.ReqCreateGroup{Name: "Tea"}, people...)
}

func (c *linked) foundedAs(asked whatsmeow.ReqCreateGroup, people ...string) *types.GroupInfo {
	c.t.Helper()
	for _, person := range people {
		asked.Participants = append(asked.Participants, jidOf(person))
	}
	group, err := c.CreateGroup(ctx, asked)
	if err != nil {
		c.t.Fatal(err)
	}
	return group
}

func (c *linked) group(jid types.JID) *types.GroupInfo {
	c.t.Helper()
	group, err := c.GetGroupInfo(ctx, jid)
	if err != nil {
		c.t.Fatal(err)
	}
	return group
}

func memberPhones(group *types.GroupInfo) []string {
	var phones []string
	for _, member := range group.Participants {
		phones = append(phones, "+"+member.PhoneNumber.User)
	}
	return phones
}

func TestWhoIsInANewGroupIsToldOfIt(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	made := a.founded(bob, carol)
	for _, c := range []*linked{a, b} {
		told := next[*events.JoinedGroup](c, nil)
		if told.JID != made.JID || told.Name != "Tea" || told.Type != "new" || told.SenderPN.User != alice[1:] ||
			!slices.Equal(memberPhones(&told.GroupInfo), []string{alice, bob, carol}) {
			t.Fatalf("%+v", told)
		}
	}
	if got := b.group(made.JID); !got.Participants[0].IsSuperAdmin || got.Participants[1].IsAdmin || got.OwnerPN.User != alice[1:] ||
		got.AddressingMode != types.AddressingModeLID || got.ParticipantCount != 3 {
		t.Fatalf("%+v", got)
	}
	joined, err := b.GetJoinedGroups(ctx)
	if err != nil || len(joined) != 1 || joined[0].JID != made.JID {
		t.Fatal(joined, err)
	}
}

func TestMembersAreToldWhoComesAndGoesAndWhatTheyMayDo(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(bob).JID
	change := func(action whatsmeow.ParticipantChange, people ...types.JID) {
		t.Helper()
		if done, err := a.UpdateGroupParticipants(ctx, group, people, action); err != nil || done[0].Error != 0 {
			t.Fatal(done, err)
		}
	}
	change(whatsmeow.ParticipantChangeAdd, jidOf(carol))
	if told := next(b, func(e *events.GroupInfo) bool { return len(e.Join) > 0 }); told.Join[0].User != "9491510000003" ||
		told.Sender.User != "9491510000001" || told.SenderPN.User != alice[1:] {
		t.Fatalf("%+v", told)
	}
	change(whatsmeow.ParticipantChangePromote, jidOf(bob))
	next(b, func(e *events.GroupInfo) bool { return len(e.Promote) == 1 })
	if _, err := b.UpdateGroupParticipants(ctx, group, []types.JID{jidOf(carol)}, whatsmeow.ParticipantChangeRemove); err != nil {
		t.Fatal(err)
	}
	next(a, func(e *events.GroupInfo) bool { return len(e.Leave) == 1 && e.Leave[0].User == "9491510000003" })
	change(whatsmeow.ParticipantChangeDemote, jidOf(bob))
	next(b, func(e *events.GroupInfo) bool { return len(e.Demote) == 1 })
	if err := b.LeaveGroup(ctx, group); err != nil {
		t.Fatal(err)
	}
	left := next(a, func(e *events.GroupInfo) bool { return len(e.Leave) == 1 && e.Leave[0].User == "9491510000002" })
	if left.Sender.User != "9491510000002" || !slices.Equal(memberPhones(a.group(group)), []string{alice}) {
		t.Fatalf("%+v", left)
	}
}

func TestWhatAGroupIsCalledAndHowItBehavesIsToldToItsMembers(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(bob).JID
	check := func(err error, told func(*events.GroupInfo) bool) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		next(b, told)
	}
	check(a.SetGroupName(ctx, group, "Coffee"), func(e *events.GroupInfo) bool { return e.Name != nil && e.Name.Name == "Coffee" })
	check(a.SetGroupTopic(ctx, group, "", "", "at four"), func(e *events.GroupInfo) bool { return e.Topic != nil && e.Topic.Topic == "at four" })
	check(a.SetGroupTopic(ctx, group, "", "", ""), func(e *events.GroupInfo) bool { return e.Topic != nil && e.Topic.TopicDeleted })
	check(a.SetGroupAnnounce(ctx, group, true), func(e *events.GroupInfo) bool { return e.Announce != nil && e.Announce.IsAnnounce })
	check(a.SetGroupLocked(ctx, group, true), func(e *events.GroupInfo) bool { return e.Locked != nil && e.Locked.IsLocked })
	check(a.SetGroupJoinApprovalMode(ctx, group, true), func(e *events.GroupInfo) bool { return e.MembershipApprovalMode != nil })
	check(a.SetDisappearingTimer(ctx, group, 24*time.Hour, time.Time{}), func(e *events.GroupInfo) bool {
		return e.Ephemeral != nil && e.Ephemeral.DisappearingTimer == 86400
	})
	check(a.SetGroupMemberAddMode(ctx, group, types.GroupMemberAddModeAdmin), func(e *events.GroupInfo) bool {
		return len(e.UnknownChanges) == 1 && e.UnknownChanges[0].Tag == "member_add_mode"
	})
	if got := b.group(group); got.Name != "Coffee" || got.Topic != "" || !got.IsAnnounce || !got.IsLocked || !got.IsJoinApprovalRequired ||
		got.DisappearingTimer != 86400 || got.MemberAddMode != types.GroupMemberAddModeAdmin {
		t.Fatalf("%+v", got)
	}
	if err := b.SetGroupName(ctx, group, "Mine"); !errors.Is(err, whatsmeow.ErrIQNotAuthorized) {
		t.Fatal(err)
	}
	if _, err := b.sayTo(group, said("hello")); err == nil {
		t.Fatal("a member wrote where only administrators may")
	}
}

func TestWhatIsTooLongAndWhoIsNotAMemberIsRefused(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(carol).JID
	if err := a.SetGroupName(ctx, group, strings.Repeat("x", 101)); !errors.Is(err, whatsmeow.ErrIQNotAcceptable) {
		t.Fatal(err)
	}
	if err := a.SetGroupTopic(ctx, group, "", "", strings.Repeat("x", 2049)); !errors.Is(err, whatsmeow.ErrIQNotAcceptable) {
		t.Fatal(err)
	}
	if err := a.SetGroupTopic(ctx, group, "SEEN-BEFORE", "", "at four"); err == nil {
		t.Fatal("it changed what somebody else had changed")
	}
	if _, err := b.GetGroupInfo(ctx, group); !errors.Is(err, whatsmeow.ErrNotInGroup) {
		t.Fatal(err)
	}
	if err := b.LeaveGroup(ctx, group); !errors.Is(err, whatsmeow.ErrIQForbidden) {
		t.Fatal(err)
	}
	if _, err := a.GetGroupInfo(ctx, types.NewJID("120363000000000001", types.GroupServer)); !errors.Is(err, whatsmeow.ErrGroupNotFound) {
		t.Fatal(err)
	}
}

func TestWhoIsAwayIsToldOfChangesAfterTheNextLogin(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(bob).JID
	next[*events.JoinedGroup](b, nil)
	b.Disconnect()
	if err := a.SetGroupName(ctx, group, "Coffee"); err != nil {
		t.Fatal(err)
	}
	b.connect()
	next(b, func(e *events.GroupInfo) bool { return e.Name != nil && e.Name.Name == "Coffee" })
}

func TestWhoCannotBeAddedCanBeInvited(t *testing.T) {
	n := start(t)
	n.Change(func(s *network.Settings) {
		s.Unaddable, s.Unregistered = map[string]bool{bob[1:]: true}, map[string]bool{dora[1:]: true}
	})
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(bob, carol)
	failed := group.Participants[len(group.Participants)-1]
	if failed.PhoneNumber.User != bob[1:] || failed.Error != 403 || failed.AddRequest == nil || failed.AddRequest.Code == "" {
		t.Fatalf("%+v", group.Participants)
	}
	added, err := a.UpdateGroupParticipants(ctx, group.JID, []types.JID{jidOf(bob), jidOf(carol), jidOf(dora)}, whatsmeow.ParticipantChangeAdd)
	if err != nil || len(added) != 3 || added[0].AddRequest.Code != failed.AddRequest.Code || added[1].Error != 409 || added[2].Error != 404 {
		t.Fatal(added, err)
	}
	invite := added[0].AddRequest
	until := invite.Expiration.Unix()
	if seen, err := b.GetGroupInfoFromInvite(ctx, group.JID, jidOf(alice), invite.Code, until); err != nil || seen.Name != "Tea" {
		t.Fatal(seen, err)
	}
	if err := b.JoinGroupWithInvite(ctx, group.JID, jidOf(alice), "WRONG", until); !errors.Is(err, whatsmeow.ErrIQGone) {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.JoinGroupWithInvite(ctx, group.JID, jidOf(alice), invite.Code, until); err != nil {
			t.Fatal(err)
		}
	}
	if joined := next[*events.JoinedGroup](b, nil); joined.Reason != "invite" || joined.ParticipantCount != 3 {
		t.Fatalf("%+v", joined)
	}
}

func TestALinkLeadsIntoAGroupUntilThereIsAnotherOne(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(carol).JID
	link, err := a.GetGroupInviteLink(ctx, group, false)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := b.GetGroupInfoFromLink(ctx, link); err != nil || seen.JID != group || len(seen.Participants) != 0 || seen.ParticipantCount != 2 {
		t.Fatal(seen, err)
	}
	if joined, err := b.JoinGroupWithLink(ctx, link); err != nil || joined != group {
		t.Fatal(joined, err)
	}
	if told := next(a, func(e *events.GroupInfo) bool { return len(e.Join) == 1 }); told.JoinReason != "invite" || told.Sender.User != told.Join[0].User {
		t.Fatalf("%+v", told)
	}
	if _, err := b.GetGroupInviteLink(ctx, group, false); !errors.Is(err, whatsmeow.ErrGroupInviteLinkUnauthorized) {
		t.Fatal(err)
	}
	other, err := a.GetGroupInviteLink(ctx, group, true)
	if err != nil || other == link {
		t.Fatal(other, err)
	}
	if _, err := b.JoinGroupWithLink(ctx, link); !errors.Is(err, whatsmeow.ErrInviteLinkRevoked) {
		t.Fatal(err)
	}
	if _, err := b.JoinGroupWithLink(ctx, "nothing"); !errors.Is(err, whatsmeow.ErrInviteLinkInvalid) {
		t.Fatal(err)
	}
}

func TestWhoAsksToJoinIsTakenOrRefused(t *testing.T) {
	n := start(t)
	a, b, c := paired(t, n, alice), paired(t, n, bob), paired(t, n, carol)
	group := a.foundedAs(whatsmeow.ReqCreateGroup{
		Name: "Tea", GroupMembershipApprovalMode: types.GroupMembershipApprovalMode{IsJoinApprovalRequired: true},
	}).JID
	link, _ := a.GetGroupInviteLink(ctx, group, false)
	for _, asking := range []*linked{b, c} {
		if joined, err := asking.JoinGroupWithLink(ctx, link); err != nil || joined != group {
			t.Fatal(joined, err)
		}
	}
	told := next(a, func(e *events.GroupInfo) bool { return len(e.UnknownChanges) == 1 })
	if change := told.UnknownChanges[0]; change.Tag != "created_membership_requests" || change.Attrs["request_method"] != "invite_link" {
		t.Fatal(change)
	}
	asking, err := a.GetGroupRequestParticipants(ctx, group)
	if err != nil || len(asking) != 2 || asking[0].JID.User != "9491510000002" {
		t.Fatal(asking, err)
	}
	if done, err := a.UpdateGroupRequestParticipants(ctx, group, []types.JID{asking[0].JID}, whatsmeow.ParticipantChangeApprove); err != nil || done[0].Error != 0 {
		t.Fatal(done, err)
	}
	next[*events.JoinedGroup](b, nil)
	if done, err := a.UpdateGroupRequestParticipants(ctx, group, []types.JID{asking[1].JID, asking[0].JID}, whatsmeow.ParticipantChangeReject); err != nil ||
		done[0].Error != 0 || done[1].Error != 404 {
		t.Fatal(done, err)
	}
	if got := memberPhones(a.group(group)); !slices.Equal(got, []string{alice, bob}) {
		t.Fatal(got)
	}
}

func TestAGroupHasAtMost1024Members(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	people := []string{alice[1:]}
	for i := range 1022 {
		people = append(people, fmt.Sprintf("4915200%06d", i))
	}
	group := types.NewJID(n.CreateGroup("All", people, people[:1]).ID, types.GroupServer)
	added, err := a.UpdateGroupParticipants(ctx, group, []types.JID{jidOf(carol), jidOf(dora)}, whatsmeow.ParticipantChangeAdd)
	if err != nil || added[0].Error != 0 || added[1].Error != 419 {
		t.Fatal(added, err)
	}
	link, _ := a.GetGroupInviteLink(ctx, group, false)
	if _, err := b.JoinGroupWithLink(ctx, link); err == nil || !strings.Contains(err.Error(), "419") {
		t.Fatal(err)
	}
}

func TestAGroupShowsAPicture(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	group := a.founded(bob).JID
	if _, err := a.SetGroupPhoto(ctx, group, []byte("no JPEG")); !errors.Is(err, whatsmeow.ErrInvalidImageFormat) {
		t.Fatal(err)
	}
	shown := []byte("\xff\xd8\xff\xe0 a picture")
	id, err := a.SetGroupPhoto(ctx, group, shown)
	if err != nil {
		t.Fatal(err)
	}
	if told := next[*events.Picture](b, nil); told.PictureID != id || told.JID != group || told.Author.User != "9491510000001" {
		t.Fatalf("%+v", told)
	}
	info, err := b.GetProfilePictureInfo(ctx, group, nil)
	if err != nil || info.ID != id {
		t.Fatal(info, err)
	}
	response, err := (&http.Client{Transport: redirected(n.Address)}).Get(info.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if got, _ := io.ReadAll(response.Body); string(got) != string(shown) {
		t.Fatalf("%q", got)
	}
	if _, err := a.SetGroupPhoto(ctx, group, nil); err != nil {
		t.Fatal(err)
	}
	next(b, func(e *events.Picture) bool { return e.Remove })
	if _, err := b.GetProfilePictureInfo(ctx, group, nil); !errors.Is(err, whatsmeow.ErrProfilePictureNotSet) {
		t.Fatal(err)
	}
}
