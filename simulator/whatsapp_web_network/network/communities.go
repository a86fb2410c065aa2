package network

import (
	"slices"
	"strconv"
	"strings"
)

// linkedTo are the groups of a community, that for announcements first.
func (n *Network) linkedTo(community string) []*Group {
	var linked []*Group
	for _, group := range n.groups {
		if group.community == community {
			linked = append(linked, group)
		}
	}
	slices.SortFunc(linked, func(a, b *Group) int {
		if a.announcements != b.announcements {
			if a.announcements {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return linked
}

// newAnnouncements makes the group for announcements of a new community.
func (n *Network) newAnnouncements(community *Group, by string) {
	group := n.newGroup(community.Subject, by, community.Members, []string{by})
	group.community, group.announcements, group.announce = community.ID, true, true
	n.tellOfNew(group, by)
}

// linkTo links a group to a community for somebody who administers both.
func (n *Network) linkTo(by, community, id string) error {
	parent, err := n.parentOf(by, community)
	if err != nil {
		return err
	}
	group, err := n.administered(by, id)
	switch {
	case err != nil:
		return err
	case group.community == community:
		return nil
	case group.community != "" || group.parent:
		return deniedConflict
	}
	n.link(parent, group, by)
	return nil
}

func (n *Network) link(parent, group *Group, by string) {
	group.community = parent.ID
	n.tellMembers(parent, by, linkNode("link", "sub_group", group))
	n.tellMembers(group, by, linkNode("link", "parent_group", parent))
	n.enterCommunity(group, by, group.Members)
}

// enterCommunity makes the members of one of its groups members of a community, and of its announcements.
func (n *Network) enterCommunity(group *Group, by string, numbers []string) {
	parent := n.groups[group.community]
	if parent == nil {
		return
	}
	n.take(parent, by, numbers, "linked_group_join")
	for _, linked := range n.linkedTo(parent.ID) {
		if linked.announcements && linked != group {
			n.take(linked, by, numbers, "linked_group_join")
		}
	}
}

// unlinkFrom takes a group out of a community for somebody who administers that.
func (n *Network) unlinkFrom(by, community, id string) error {
	parent, err := n.parentOf(by, community)
	if err != nil {
		return err
	}
	group := n.groups[id]
	switch {
	case group == nil:
		return deniedUnknown
	case group.community != community:
		return deniedUnknown
	case group.announcements:
		return deniedText
	}
	n.unlink(parent, group, by, "unlink_group")
	return nil
}

func (n *Network) unlink(parent, group *Group, by, reason string) {
	group.community = ""
	of := linkNode("unlink", "sub_group", group)
	of.Attrs["unlink_reason"] = reason
	n.tellMembers(parent, by, of)
	to := linkNode("unlink", "parent_group", parent)
	to.Attrs["unlink_reason"] = reason
	n.tellMembers(group, by, to)
}

// leaveCommunity takes somebody out of a community and all of its groups.
func (n *Network) leaveCommunity(number, id string) error {
	group, err := n.visible(number, id)
	if err == nil {
		n.drop(group, number, []string{number})
	}
	return err
}

// endCommunity ends a community: its groups are in none, and its announcements end with it.
func (n *Network) endCommunity(by, id string) error {
	parent, err := n.visible(by, id)
	switch {
	case err != nil:
		return err
	case !parent.parent:
		return deniedUnknown
	case parent.owner != by:
		return deniedToMembers
	}
	for _, group := range n.linkedTo(id) {
		if !group.announcements {
			n.unlink(parent, group, by, "delete_parent")
		}
	}
	for _, group := range append(n.linkedTo(id), parent) {
		n.tellMembers(group, by, Node{Tag: "delete", Attrs: Attrs{"reason": "delete_parent"}})
		n.ended[group.code] = true
		delete(n.groups, group.ID)
	}
	return nil
}

func (n *Network) parentOf(by, id string) (*Group, error) {
	parent, err := n.administered(by, id)
	if err == nil && !parent.parent {
		return nil, deniedUnknown
	}
	return parent, err
}

func linkNode(tag, kind string, group *Group) Node {
	return Node{Tag: tag, Attrs: Attrs{tag + "_type": kind}, Content: []Node{targetNode(group)}}
}

func targetNode(group *Group) Node {
	node := Node{Tag: "group", Attrs: Attrs{
		"jid": group.jid(), "id": group.ID, "subject": group.Subject, "s_t": epoch(group.named),
		"creation": epoch(group.Made), "size": strconv.Itoa(len(group.Members)),
	}}
	if group.announcements {
		node.Content = []Node{{Tag: "default_sub_group"}}
	}
	return node
}

// communityMembers are those of all groups of a community.
func (n *Network) communityMembers(parent *Group) []Node {
	seen := map[string]bool{}
	var nodes []Node
	for _, group := range append(n.linkedTo(parent.ID), parent) {
		for _, member := range group.Members {
			if !seen[member] {
				seen[member] = true
				nodes = append(nodes, n.participant(&Group{}, member))
			}
		}
	}
	return nodes
}
