package network

import (
	"errors"
	"time"

	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

// ActInGroup has somebody, by their digits, do in a group what a client could.
func (n *Network) ActInGroup(number string, query *simnetv1.Query) *simnetv1.Answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer, err := n.act(number, query)
	if err != nil {
		denied := deniedRequest
		_ = errors.As(err, &denied)
		answer = &simnetv1.Answer{Kind: &simnetv1.Answer_Error{Error: &simnetv1.QueryError{
			Reason: reasonOf(denied), Message: denied.Error(),
		}}}
	}
	answer.Id = query.GetId()
	return answer
}

func reasonOf(denied Denied) simnetv1.QueryErrorReason {
	switch denied {
	case deniedToMembers:
		return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_NOT_AN_ADMIN
	case deniedToStrangers:
		return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_NOT_A_MEMBER
	case deniedUnknown:
		return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_NOT_FOUND
	case deniedEnded:
		return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_INVITE_ENDED
	case deniedFull:
		return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_FULL
	}
	return simnetv1.QueryErrorReason_QUERY_ERROR_REASON_MALFORMED
}

func (n *Network) act(number string, query *simnetv1.Query) (*simnetv1.Answer, error) {
	done := &simnetv1.Answer{Kind: &simnetv1.Answer_Done{Done: &simnetv1.Done{}}}
	switch asked := query.GetKind().(type) {
	case *simnetv1.Query_CreateGroup:
		return n.found(number, asked.CreateGroup)
	case *simnetv1.Query_GetGroup:
		group, err := n.visible(number, asked.GetGroup.GetGroupId())
		if err != nil {
			return nil, err
		}
		return n.shown(number, group), nil
	case *simnetv1.Query_ChangeGroup:
		return done, n.changeAs(number, asked.ChangeGroup)
	case *simnetv1.Query_ChangeGroupMembers:
		change := asked.ChangeGroupMembers
		numbers, named := n.numbersAt(change.GetPeople())
		outcomes, err := n.changeMembers(number, change.GetGroupId(), memberActions[change.GetAction()], numbers)
		return failuresOf(outcomes, named), err
	case *simnetv1.Query_LeaveGroup:
		return done, n.leave(number, asked.LeaveGroup.GetGroupId())
	case *simnetv1.Query_GetInvite:
		code, err := n.inviteCode(number, asked.GetInvite.GetGroupId(), asked.GetInvite.GetReset_())
		return &simnetv1.Answer{Kind: &simnetv1.Answer_Invite{Invite: code}}, err
	case *simnetv1.Query_JoinGroup:
		return n.joinAs(number, asked.JoinGroup)
	case *simnetv1.Query_AnswerJoinRequests:
		answer := asked.AnswerJoinRequests
		numbers, named := n.numbersAt(answer.GetPeople())
		outcomes, err := n.answerRequests(number, answer.GetGroupId(), numbers, answer.GetApprove())
		return failuresOf(outcomes, named), err
	case *simnetv1.Query_LinkGroup:
		link := asked.LinkGroup
		if link.GetUnlink() {
			return done, n.unlinkFrom(number, link.GetCommunityId(), link.GetGroupId())
		}
		return done, n.linkTo(number, link.GetCommunityId(), link.GetGroupId())
	case *simnetv1.Query_LeaveCommunity:
		return done, n.leaveCommunity(number, asked.LeaveCommunity.GetGroupId())
	case *simnetv1.Query_DeactivateCommunity:
		return done, n.endCommunity(number, asked.DeactivateCommunity.GetCommunityId())
	}
	return nil, deniedRequest
}

var memberActions = map[simnetv1.MemberAction]string{
	simnetv1.MemberAction_MEMBER_ACTION_ADD: "add", simnetv1.MemberAction_MEMBER_ACTION_REMOVE: "remove",
	simnetv1.MemberAction_MEMBER_ACTION_PROMOTE: "promote", simnetv1.MemberAction_MEMBER_ACTION_DEMOTE: "demote",
}

// numbersAt are the numbers of whoever addresses name, and the addresses by them.
func (n *Network) numbersAt(addresses []string) (numbers []string, named map[string]string) {
	named = map[string]string{}
	for _, address := range addresses {
		if person := n.personAt(address); person != nil {
			numbers = append(numbers, person.Digits)
			named[person.Digits] = address
		}
	}
	return numbers, named
}

func failuresOf(outcomes []outcome, named map[string]string) *simnetv1.Answer {
	failures := &simnetv1.MemberFailures{}
	for _, one := range outcomes {
		if one.code != 0 {
			failures.Failures = append(failures.Failures, &simnetv1.MemberFailure{Person: named[one.number], Reason: reasonOf(one.code)})
		}
	}
	return &simnetv1.Answer{Kind: &simnetv1.Answer_MemberFailures{MemberFailures: failures}}
}

func (n *Network) found(number string, asked *simnetv1.CreateGroup) (*simnetv1.Answer, error) {
	numbers, _ := n.numbersAt(asked.GetMembers())
	rules := asked.GetRules()
	group, _, err := n.create(number, creation{
		subject: asked.GetSubject(), members: numbers, parent: asked.GetParent(), approval: rules.GetJoinApproval(),
		announce: rules.GetAnnounceOnly(), locked: rules.GetLocked(), adminsAdd: rules.GetAdminsAdd(),
		timer: int(rules.GetDisappearSeconds()), community: asked.GetCommunityId(),
	})
	if err != nil {
		return nil, err
	}
	return n.shown(number, group), nil
}

func (n *Network) joinAs(number string, invite *simnetv1.Invite) (*simnetv1.Answer, error) {
	var group *Group
	var pending bool
	var err error
	if invitation := invite.GetInvitation(); invitation != nil {
		group, err = n.joinByInvitation(number, invitation.GetGroupId(), invitation.GetCode(), "")
	} else {
		group, pending, err = n.joinByCode(number, invite.GetCode())
	}
	if err != nil {
		return nil, err
	}
	return &simnetv1.Answer{Kind: &simnetv1.Answer_Joined{Joined: &simnetv1.GroupJoined{GroupId: group.ID, Pending: pending}}}, nil
}

func (n *Network) changeAs(number string, change *simnetv1.ChangeGroup) error {
	id := change.GetGroupId()
	flag := func(is bool, tag, not string) error {
		if is {
			return n.setFlag(number, id, tag)
		}
		return n.setFlag(number, id, not)
	}
	switch set := change.GetChange().(type) {
	case *simnetv1.ChangeGroup_Subject:
		return n.rename(number, id, set.Subject)
	case *simnetv1.ChangeGroup_Description:
		previous := ""
		if group := n.groups[id]; group != nil {
			previous = group.descriptionID
		}
		return n.describe(number, id, set.Description, "3EB0"+newInviteCode(), previous)
	case *simnetv1.ChangeGroup_AnnounceOnly:
		return flag(set.AnnounceOnly, "announcement", "not_announcement")
	case *simnetv1.ChangeGroup_Locked:
		return flag(set.Locked, "locked", "unlocked")
	case *simnetv1.ChangeGroup_JoinApproval:
		return n.setApproval(number, id, set.JoinApproval)
	case *simnetv1.ChangeGroup_AdminsAdd:
		mode := "all_member_add"
		if set.AdminsAdd {
			mode = "admin_add"
		}
		return n.setAddMode(number, id, mode)
	case *simnetv1.ChangeGroup_DisappearSeconds:
		return n.setTimer(number, id, int(set.DisappearSeconds))
	case *simnetv1.ChangeGroup_PictureRef:
		var data []byte
		if set.PictureRef != "" {
			if data = n.media.plain(set.PictureRef); data == nil {
				return deniedUnknown
			}
		}
		_, err := n.setPicture(number, id, data)
		return err
	}
	return deniedRequest
}

// shown is a group as somebody sees it.
func (n *Network) shown(number string, group *Group) *simnetv1.Answer {
	seen := &simnetv1.Group{
		GroupId: group.ID, Subject: group.Subject, Description: group.description, CreateTimeUs: micros(group.Made),
		MemberCount: uint32(len(group.Members)), Parent: group.parent, CommunityId: group.community, Announcements: group.announcements,
		Rules: &simnetv1.GroupRules{
			AnnounceOnly: group.announce, Locked: group.locked, JoinApproval: group.approval, AdminsAdd: group.adminsAdd,
			DisappearSeconds: uint32(group.timer),
		},
	}
	if group.picture != nil {
		seen.PictureId = group.picture.id
	}
	for _, linked := range n.linkedTo(group.ID) {
		if linked.announcements {
			seen.AnnouncementGroupId = linked.ID
		}
	}
	for _, member := range group.Members {
		seen.Members = append(seen.Members, &simnetv1.GroupMember{
			Address: n.addressOf(n.person(member).lid()), Admin: group.Admins[member], Owner: group.owner == member,
		})
	}
	switch {
	case group.owner == number:
		seen.OwnRole = simnetv1.GroupRole_GROUP_ROLE_OWNER
	case group.Admins[number]:
		seen.OwnRole = simnetv1.GroupRole_GROUP_ROLE_ADMIN
	case group.has(number):
		seen.OwnRole = simnetv1.GroupRole_GROUP_ROLE_MEMBER
	}
	return &simnetv1.Answer{Kind: &simnetv1.Answer_Group{Group: seen}}
}

func micros(at time.Time) uint64 { return uint64(at.UnixMicro()) }
