package network

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// timers are how long messages may last before they disappear, in seconds.
var timers = []int{0, 24 * 60 * 60, 7 * 24 * 60 * 60, 90 * 24 * 60 * 60}

// changeable is a group of which somebody may change the name and the like.
func (n *Network) changeable(by, id string) (*Group, error) {
	group, err := n.visible(by, id)
	if err == nil && (group.locked || group.parent || group.announcements) && !group.Admins[by] {
		return nil, deniedToMembers
	}
	return group, err
}

func (n *Network) rename(by, id, subject string) error {
	group, err := n.changeable(by, id)
	if err != nil {
		return err
	}
	if characters := utf8.RuneCountInString(subject); characters == 0 || characters > longestSubject {
		return deniedText
	}
	group.Subject, group.named = subject, time.Now()
	n.tellMembers(group, by, Node{Tag: "subject", Attrs: Attrs{
		"subject": subject, "s_t": epoch(group.named), "s_o": n.person(by).lid(),
	}})
	if group.parent { // its group for announcements is called as it is
		for _, linked := range n.linkedTo(group.ID) {
			if linked.announcements {
				linked.Subject, linked.named = subject, group.named
				n.tellMembers(linked, by, Node{Tag: "subject", Attrs: Attrs{
					"subject": subject, "s_t": epoch(group.named), "s_o": n.person(by).lid(),
				}})
			}
		}
	}
	return nil
}

// describe sets a group's description, empty: it has none, by somebody who saw the one before.
func (n *Network) describe(by, id, description, newID, previousID string) error {
	group, err := n.changeable(by, id)
	switch {
	case err != nil:
		return err
	case previousID != group.descriptionID:
		return deniedConflict
	case utf8.RuneCountInString(description) > longestDescription:
		return deniedText
	}
	group.description, group.descriptionID, group.described = description, newID, time.Now()
	body := Node{Tag: "body", Content: []byte(description)}
	if description == "" {
		body = Node{Tag: "delete"}
	}
	n.tellMembers(group, by, Node{Tag: "description", Attrs: Attrs{"id": newID}, Content: []Node{body}})
	return nil
}

// setFlag sets what only administrators set, by the name of its node, or of that which says that it is not so.
func (n *Network) setFlag(by, id, tag string) error {
	group, err := n.administered(by, id)
	if err != nil {
		return err
	}
	node := Node{Tag: tag, Attrs: Attrs{"v_id": "2"}}
	switch tag {
	case "locked", "unlocked":
		group.locked = tag == "locked"
		node.Attrs = nil
	case "announcement", "not_announcement":
		group.announce = tag == "announcement"
	default:
		return deniedRequest
	}
	n.tellMembers(group, by, node)
	return nil
}

func (n *Network) setApproval(by, id string, on bool) error {
	group, err := n.administered(by, id)
	if err != nil {
		return err
	}
	group.approval = on
	state := "off"
	if on {
		state = "on"
	}
	n.tellMembers(group, by, approvalNode(state))
	if !on { // whoever asked is in
		var asking []string
		for _, request := range group.requests {
			asking = append(asking, request.number)
		}
		n.take(group, by, asking[:min(len(asking), mostMembers-len(group.Members))], "invite")
	}
	return nil
}

func (n *Network) setAddMode(by, id, mode string) error {
	group, err := n.administered(by, id)
	if err != nil {
		return err
	}
	if mode != "admin_add" && mode != "all_member_add" {
		return deniedRequest
	}
	group.adminsAdd = mode == "admin_add"
	n.tellMembers(group, by, Node{Tag: "member_add_mode", Content: []byte(mode)})
	return nil
}

func (n *Network) setTimer(by, id string, seconds int) error {
	group, err := n.changeable(by, id)
	if err != nil {
		return err
	}
	if !slices.Contains(timers, seconds) {
		return deniedRequest
	}
	group.timer = seconds
	node := Node{Tag: "not_ephemeral"}
	if seconds > 0 {
		node = ephemeralNode(seconds)
	}
	n.tellMembers(group, by, node)
	return nil
}

func approvalNode(state string) Node {
	return Node{Tag: "membership_approval_mode", Content: []Node{{Tag: "group_join", Attrs: Attrs{"state": state}}}}
}

func ephemeralNode(seconds int) Node {
	return Node{Tag: "ephemeral", Attrs: Attrs{"expiration": strconv.Itoa(seconds), "trigger": "1"}}
}
