package network

import (
	"slices"

	"go.mau.fi/whatsmeow/types"
)

// outcome is what became of one person of those that somebody wanted to do something with; code 0: it is done.
type outcome struct {
	number string
	code   Denied
	// With which somebody can be invited who cannot be added; empty: they cannot.
	invitation string
}

// admit says whether somebody may come into a group, whom a member adds.
func (n *Network) admit(group *Group, by, number string) outcome {
	switch {
	case n.settings.Unregistered[number]:
		return outcome{number: number, code: deniedUnknown}
	case group.has(number):
		return outcome{number: number, code: deniedConflict}
	case n.person(number).hasBlocked(n.person(by)):
		return outcome{number: number, code: deniedToMembers}
	case len(group.Members) >= mostMembers:
		return outcome{number: number, code: deniedFull}
	case n.settings.Unaddable[number]:
		if group.invitations[number] == "" {
			group.invitations[number] = newInviteCode()
		}
		return outcome{number: number, code: deniedToStrangers, invitation: group.invitations[number]}
	}
	return outcome{number: number}
}

// add adds people to a group for one of its members, so far as it is allowed.
func (n *Network) add(by, id string, numbers []string) ([]outcome, error) {
	group, err := n.visible(by, id)
	if err != nil {
		return nil, err
	}
	if group.adminsAdd && !group.Admins[by] || group.announcements && !group.Admins[by] {
		return nil, deniedToMembers
	}
	outcomes := make([]outcome, 0, len(numbers))
	var added []string
	for _, number := range numbers {
		if slices.Contains(added, number) {
			continue
		}
		one := n.admit(group, by, number)
		if one.code == 0 && len(group.Members)+len(added) >= mostMembers {
			one.code = deniedFull
		}
		if one.code == 0 && group.approval && !group.Admins[by] {
			n.request(group, number, "non_admin_add", by)
		} else if one.code == 0 {
			added = append(added, number)
		}
		outcomes = append(outcomes, one)
	}
	n.take(group, by, added, "")
	return outcomes, nil
}

// take makes people members of a group, and of the community that it is linked to.
func (n *Network) take(group *Group, by string, numbers []string, reason string) {
	var added []Node
	before := slices.Clone(group.Members)
	var come []string
	for _, number := range numbers {
		if group.has(number) {
			continue
		}
		group.Members = append(group.Members, number)
		delete(group.former, number)
		delete(group.invitations, number)
		n.forgetRequest(group, number)
		added, come = append(added, n.participant(group, number)), append(come, number)
	}
	if len(come) == 0 {
		return
	}
	attrs := Attrs{"v_id": "2", "prev_v_id": "1"}
	entering := Attrs{}
	if reason != "" {
		attrs["reason"], entering["reason"] = reason, reason
	}
	for _, member := range before {
		n.tellGroup(group, member, by, Node{Tag: "add", Attrs: attrs, Content: added})
	}
	for _, number := range come {
		n.tellOfEntering(group, number, by, entering)
	}
	n.enterCommunity(group, by, come)
}

// remove removes people from a group for one of its administrators.
func (n *Network) remove(by, id string, numbers []string) ([]outcome, error) {
	group, err := n.administered(by, id)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, 0, len(numbers))
	var gone []string
	for _, number := range numbers {
		one := outcome{number: number}
		switch {
		case !group.has(number):
			one.code = deniedUnknown
		case number == group.owner:
			one.code = deniedText
		default:
			gone = append(gone, number)
		}
		outcomes = append(outcomes, one)
	}
	n.drop(group, by, gone)
	return outcomes, nil
}

// drop takes people out of a group; of a community, out of all of its groups.
func (n *Network) drop(group *Group, by string, numbers []string) {
	told := slices.Clone(group.Members)
	var removed []Node
	var gone []string
	for _, number := range numbers {
		at := slices.Index(group.Members, number)
		if at < 0 {
			continue
		}
		removed, gone = append(removed, n.participant(group, number)), append(gone, number)
		group.Members = slices.Delete(group.Members, at, at+1)
		group.former[number] = true
		delete(group.Admins, number)
		if group.owner == number {
			group.owner = ""
		}
	}
	if len(gone) == 0 {
		return
	}
	if len(group.Members) > 0 && len(group.Admins) == 0 { // a group always has one
		group.Admins[group.Members[0]] = true
		defer n.tellMembers(group, by, Node{Tag: "promote", Content: []Node{n.participant(group, group.Members[0])}})
	}
	for _, member := range told {
		n.tellGroup(group, member, by, Node{Tag: "remove", Attrs: Attrs{"v_id": "2", "prev_v_id": "1"}, Content: removed})
	}
	if group.parent {
		for _, linked := range n.linkedTo(group.ID) {
			n.drop(linked, by, gone)
		}
	}
}

// leave takes somebody out of a group by their own wish.
func (n *Network) leave(number, id string) error {
	group, err := n.visible(number, id)
	if err == nil {
		n.drop(group, number, []string{number})
	}
	return err
}

// appoint makes people administrators of a group, or with admin false administrators no more.
func (n *Network) appoint(by, id string, numbers []string, admin bool) ([]outcome, error) {
	group, err := n.administered(by, id)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, 0, len(numbers))
	var changed []string
	for _, number := range numbers {
		one := outcome{number: number}
		switch {
		case !group.has(number):
			one.code = deniedUnknown
		case number == group.owner && !admin:
			one.code = deniedText
		case group.Admins[number] != admin:
			changed = append(changed, number)
			if admin {
				group.Admins[number] = true
			} else {
				delete(group.Admins, number)
			}
		}
		outcomes = append(outcomes, one)
	}
	tag := "promote"
	if !admin {
		tag = "demote"
	}
	var nodes []Node
	for _, number := range changed {
		nodes = append(nodes, n.participant(group, number))
	}
	if len(nodes) > 0 {
		n.tellMembers(group, by, Node{Tag: tag, Content: nodes})
	}
	return outcomes, nil
}

// numbers are those of the people that the children of a node name, and the children that name nobody.
func (n *Network) numbers(list Node) (numbers []string, nobody []Node) {
	for _, child := range list.GetChildren() {
		if child.Tag != "participant" {
			continue
		}
		jid, _ := child.Attrs["jid"].(types.JID)
		if number, ok := n.numberOf(jid); ok {
			numbers = append(numbers, number)
		} else {
			nobody = append(nobody, Node{Tag: "participant", Attrs: Attrs{"jid": jid, "error": "404"}})
		}
	}
	return numbers, nobody
}
