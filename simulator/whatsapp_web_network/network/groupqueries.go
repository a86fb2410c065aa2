package network

import (
	"errors"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// groupQuery answers what a client asks of groups, or does it.
func (c *client) groupQuery(node *Node, child Node) {
	n := c.network
	to, _ := node.Attrs["to"].(types.JID)
	n.mu.Lock()
	defer n.mu.Unlock()
	answer, err := c.answerOfGroups(node, to, child)
	if err != nil {
		c.refuseGroup(node, err)
		return
	}
	c.result(node, answer...)
}

func (c *client) refuseGroup(node *Node, err error) {
	denied := deniedRequest
	_ = errors.As(err, &denied)
	c.fail(node, strconv.Itoa(int(denied)), denialTexts[denied])
}

var denialTexts = map[Denied]string{
	deniedRequest: "bad-request", deniedToMembers: "not-authorized", deniedToStrangers: "forbidden",
	deniedUnknown: "item-not-found", deniedText: "not-acceptable", deniedConflict: "conflict", deniedEnded: "gone",
	deniedFull: "resource-limit",
}

func (c *client) answerOfGroups(node *Node, to types.JID, child Node) ([]Node, error) {
	n, own := c.network, c.account.Digits
	if to.User == "" {
		return c.answerOfAll(node, child)
	}
	set := node.Attrs["type"] == "set"
	switch child.Tag {
	case "query":
		if invited, is := child.GetOptionalChildByTag("add_request"); is {
			group, err := n.byInvitation(own, to.User, text(invited.Attrs["code"]), text(invited.Attrs["expiration"]))
			if err != nil {
				return nil, err
			}
			return []Node{n.outlineOf(group)}, nil
		}
		group, err := n.visible(own, to.User)
		if err != nil {
			return nil, err
		}
		return []Node{n.groupNode(group)}, nil
	case "accept":
		_, err := n.joinByInvitation(own, to.User, text(child.Attrs["code"]), text(child.Attrs["expiration"]))
		return nil, err
	case "add", "remove", "promote", "demote":
		numbers, nobody := n.numbers(child)
		outcomes, err := n.changeMembers(own, to.User, child.Tag, numbers)
		return []Node{{Tag: child.Tag, Content: append(n.outcomeNodes(outcomes), nobody...)}}, err
	case "subject":
		subject, _ := child.Content.([]byte)
		return nil, n.rename(own, to.User, string(subject))
	case "description":
		body := child.GetChildByTag("body")
		description, _ := body.Content.([]byte)
		return nil, n.describe(own, to.User, string(description), text(child.Attrs["id"]), text(child.Attrs["prev"]))
	case "locked", "unlocked", "announcement", "not_announcement":
		return nil, n.setFlag(own, to.User, child.Tag)
	case "membership_approval_mode":
		mode := child.GetChildByTag("group_join")
		return nil, n.setApproval(own, to.User, mode.Attrs["state"] == "on")
	case "member_add_mode":
		mode, _ := child.Content.([]byte)
		return nil, n.setAddMode(own, to.User, string(mode))
	case "ephemeral", "not_ephemeral":
		seconds, _ := strconv.Atoi(text(child.Attrs["expiration"]))
		return nil, n.setTimer(own, to.User, seconds)
	case "invite":
		code, err := n.inviteCode(own, to.User, set)
		return []Node{{Tag: "invite", Attrs: Attrs{"code": code}}}, err
	case "membership_approval_requests":
		group, err := n.administered(own, to.User)
		if err != nil {
			return nil, err
		}
		return []Node{{Tag: child.Tag, Content: n.requestNodes(group)}}, nil
	case "membership_requests_action":
		return n.answerOfRequests(own, to.User, child)
	}
	return n.answerOfCommunity(own, to.User, child)
}

// answerOfAll answers what is asked of no group that is named.
func (c *client) answerOfAll(node *Node, child Node) ([]Node, error) {
	n, own := c.network, c.account.Digits
	switch child.Tag {
	case "participating":
		var groups []Node
		for _, group := range n.groups {
			if group.has(own) {
				groups = append(groups, n.groupNode(group))
			}
		}
		return []Node{{Tag: "groups", Content: groups}}, nil
	case "create":
		return n.answerOfCreation(own, child)
	case "leave":
		for _, left := range child.GetChildren() {
			if left.Tag == "linked_groups" {
				jid, _ := left.Attrs["parent_group_jid"].(types.JID)
				if err := n.leaveCommunity(own, jid.User); err != nil {
					return nil, err
				}
				continue
			}
			jid, _ := left.Attrs["id"].(types.JID)
			if err := n.leave(own, jid.User); err != nil {
				return nil, err
			}
		}
		return []Node{{Tag: "leave"}}, nil
	case "invite":
		code := text(child.Attrs["code"])
		if node.Attrs["type"] != "set" {
			group, err := n.byCode(code)
			if err != nil {
				return nil, err
			}
			return []Node{n.outlineOf(group)}, nil
		}
		group, pending, err := n.joinByCode(own, code)
		if err != nil {
			return nil, err
		}
		tag := "group"
		if pending {
			tag = "membership_approval_request"
		}
		return []Node{{Tag: tag, Attrs: Attrs{"jid": group.jid()}}}, nil
	}
	return nil, nil
}

func (n *Network) answerOfCreation(own string, child Node) ([]Node, error) {
	numbers, nobody := n.numbers(child)
	asked := creation{subject: text(child.Attrs["subject"]), members: numbers}
	for _, part := range child.GetChildren() {
		switch part.Tag {
		case "parent":
			asked.parent = true
		case "locked":
			asked.locked = true
		case "announcement":
			asked.announce = true
		case "member_add_mode":
			mode, _ := part.Content.([]byte)
			asked.adminsAdd = text(part.Content) == "admin_add" || string(mode) == "admin_add"
		case "ephemeral":
			asked.timer, _ = strconv.Atoi(text(part.Attrs["expiration"]))
		case "membership_approval_mode":
			mode := part.GetChildByTag("group_join")
			asked.approval = mode.Attrs["state"] == "on"
		case "linked_parent":
			jid, _ := part.Attrs["jid"].(types.JID)
			asked.community = jid.User
		}
	}
	group, outcomes, err := n.create(own, asked)
	if err != nil {
		return nil, err
	}
	answer := n.groupNode(group)
	children, _ := answer.Content.([]Node)
	for _, one := range outcomes {
		if one.code != 0 {
			children = append(children, n.outcomeNodes([]outcome{one})...)
		}
	}
	answer.Content = append(children, nobody...)
	return []Node{answer}, nil
}

func (n *Network) changeMembers(own, id, what string, numbers []string) ([]outcome, error) {
	switch what {
	case "add":
		return n.add(own, id, numbers)
	case "remove":
		return n.remove(own, id, numbers)
	}
	return n.appoint(own, id, numbers, what == "promote")
}

// outcomeNodes says of each person what became of them.
func (n *Network) outcomeNodes(outcomes []outcome) []Node {
	nodes := make([]Node, 0, len(outcomes))
	for _, one := range outcomes {
		node := n.participant(&Group{}, one.number)
		if one.code != 0 {
			node.Attrs["error"] = strconv.Itoa(int(one.code))
		}
		if one.invitation != "" {
			node.Content = []Node{{Tag: "add_request", Attrs: Attrs{
				"code": one.invitation, "expiration": epoch(time.Now().Add(invitationLasts)),
			}}}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func (n *Network) requestNodes(group *Group) []Node {
	var nodes []Node
	for _, request := range group.requests {
		person := n.person(request.number)
		attrs := Attrs{"jid": person.lid(), "request_time": epoch(request.since), "request_method": request.method}
		if !n.settings.Hidden[request.number] {
			attrs["phone_number"] = person.jid()
		}
		if request.by != "" {
			attrs["requestor"] = n.person(request.by).lid()
		}
		nodes = append(nodes, Node{Tag: "membership_approval_request", Attrs: attrs})
	}
	return nodes
}

func (n *Network) answerOfRequests(own, id string, child Node) ([]Node, error) {
	var answers []Node
	for _, action := range child.GetChildren() {
		numbers, nobody := n.numbers(action)
		outcomes, err := n.answerRequests(own, id, numbers, action.Tag == "approve")
		if err != nil {
			return nil, err
		}
		answers = append(answers, Node{Tag: action.Tag, Content: append(n.outcomeNodes(outcomes), nobody...)})
	}
	return []Node{{Tag: child.Tag, Content: answers}}, nil
}

// answerOfCommunity answers what is asked of a community.
func (n *Network) answerOfCommunity(own, id string, child Node) ([]Node, error) {
	switch child.Tag {
	case "links":
		link := child.GetChildByTag("link")
		link.Content = n.linkAll(link, func(group string) error { return n.linkTo(own, id, group) })
		return []Node{{Tag: "links", Content: []Node{link}}}, nil
	case "unlink":
		return []Node{{Tag: "unlink", Attrs: child.Attrs, Content: n.linkAll(child, func(group string) error {
			return n.unlinkFrom(own, id, group)
		})}}, nil
	case "pictures":
		picture, err := n.pictureNode(own, id, child.GetChildByTag("picture"))
		return []Node{{Tag: "pictures", Content: []Node{picture}}}, err
	case "sub_groups", "linked_groups_participants":
		parent, err := n.visible(own, id)
		if err != nil {
			return nil, err
		}
		if !parent.parent {
			return nil, deniedUnknown
		}
		if child.Tag == "linked_groups_participants" {
			return []Node{{Tag: child.Tag, Content: n.communityMembers(parent)}}, nil
		}
		var groups []Node
		for _, group := range n.linkedTo(id) {
			groups = append(groups, targetNode(group))
		}
		return []Node{{Tag: child.Tag, Content: groups}}, nil
	case "delete_parent":
		return nil, n.endCommunity(own, id)
	}
	return nil, deniedRequest
}

func (n *Network) linkAll(list Node, do func(group string) error) []Node {
	var answers []Node
	for _, group := range list.GetChildren() {
		jid, _ := group.Attrs["jid"].(types.JID)
		answer := Node{Tag: "group", Attrs: Attrs{"jid": jid}}
		var denied Denied
		if errors.As(do(jid.User), &denied) {
			answer.Attrs["error"] = strconv.Itoa(int(denied))
		}
		answers = append(answers, answer)
	}
	return answers
}
