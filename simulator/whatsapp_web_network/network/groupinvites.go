package network

import (
	"crypto/rand"
	"slices"
	"strconv"
	"time"
)

// invitationLasts is how long somebody may come by an invite in a message.
const invitationLasts = 3 * 24 * time.Hour

func newInviteCode() string { return rand.Text()[:22] }

// inviteCode is the code of a group's link; reset: another one, and that of before has ended.
func (n *Network) inviteCode(by, id string, reset bool) (string, error) {
	group, err := n.administered(by, id)
	if err != nil {
		return "", err
	}
	if reset {
		n.ended[group.code] = true
		group.code = newInviteCode()
		n.tellMembers(group, by, Node{Tag: "revoke"})
	}
	return group.code, nil
}

// byCode is the group that a link leads to.
func (n *Network) byCode(code string) (*Group, error) {
	for _, group := range n.groups {
		if group.code == code {
			return group, nil
		}
	}
	if n.ended[code] {
		return nil, deniedEnded
	}
	return nil, deniedText
}

// joinByCode has somebody join by a link; pending: they ask to.
func (n *Network) joinByCode(number, code string) (group *Group, pending bool, err error) {
	if group, err = n.byCode(code); err != nil {
		return nil, false, err
	}
	switch {
	case group.has(number):
		return group, false, nil
	case len(group.Members) >= mostMembers:
		return nil, false, deniedFull
	case group.approval:
		n.request(group, number, "invite_link", "")
		return group, true, nil
	}
	n.take(group, number, []string{number}, "invite")
	return group, false, nil
}

// byInvitation is the group that an invite in a message leads somebody to.
func (n *Network) byInvitation(number, id, code, expiration string) (*Group, error) {
	group := n.groups[id]
	if group == nil {
		return nil, deniedUnknown
	}
	until, _ := strconv.ParseInt(expiration, 10, 64)
	if group.invitations[number] != code || code == "" || until > 0 && time.Now().Unix() > until {
		return nil, deniedEnded
	}
	return group, nil
}

func (n *Network) joinByInvitation(number, id, code, expiration string) (*Group, error) {
	if group := n.groups[id]; group != nil && group.has(number) {
		return group, nil
	}
	group, err := n.byInvitation(number, id, code, expiration)
	if err != nil {
		return nil, err
	}
	if len(group.Members) >= mostMembers {
		return nil, deniedFull
	}
	n.take(group, number, []string{number}, "invite")
	return group, nil
}

// request keeps that somebody wants to join, and tells the administrators.
func (n *Network) request(group *Group, number, method, by string) {
	if slices.ContainsFunc(group.requests, func(r membershipRequest) bool { return r.number == number }) {
		return
	}
	group.requests = append(group.requests, membershipRequest{number, time.Now(), method, by})
	actor := by
	if actor == "" {
		actor = number
	}
	user := n.participant(group, number)
	user.Tag = "requested_user"
	n.tellAdmins(group, actor, Node{
		Tag: "created_membership_requests", Attrs: Attrs{"request_method": method}, Content: []Node{user},
	})
}

func (n *Network) tellAdmins(group *Group, by string, change Node) {
	for _, member := range group.Members {
		if group.Admins[member] {
			n.tellGroup(group, member, by, change)
		}
	}
}

// forgetRequest forgets that somebody wants to join; false: they did not.
func (n *Network) forgetRequest(group *Group, number string) bool {
	before := len(group.requests)
	group.requests = slices.DeleteFunc(group.requests, func(r membershipRequest) bool { return r.number == number })
	return len(group.requests) < before
}

// withdraw has somebody want to join no more.
func (n *Network) withdraw(number, id string) error {
	group := n.groups[id]
	if group == nil || !n.forgetRequest(group, number) {
		return deniedUnknown
	}
	n.tellAdmins(group, number, Node{Tag: "revoked_membership_requests", Content: []Node{n.participant(group, number)}})
	return nil
}

// answerRequests takes people who want to join, or refuses them.
func (n *Network) answerRequests(by, id string, numbers []string, approve bool) ([]outcome, error) {
	group, err := n.administered(by, id)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, 0, len(numbers))
	for _, number := range numbers {
		one := outcome{number: number}
		at := slices.IndexFunc(group.requests, func(r membershipRequest) bool { return r.number == number })
		switch {
		case at < 0:
			one.code = deniedUnknown
		case approve && len(group.Members) >= mostMembers:
			one.code = deniedFull
		case approve:
			reason := "invite"
			if group.requests[at].by != "" {
				reason = ""
			}
			n.take(group, by, []string{number}, reason)
		default:
			n.forgetRequest(group, number)
			n.tellAdmins(group, by, Node{Tag: "revoked_membership_requests", Content: []Node{n.participant(group, number)}})
		}
		outcomes = append(outcomes, one)
	}
	return outcomes, nil
}
