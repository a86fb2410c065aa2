package network

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// ErrNoGroup says that there is no such group.
var ErrNoGroup = errors.New("there is no such group")

// Group is a conversation of several; its members are numbers, in the order they came.
type Group struct {
	ID      string
	Subject string
	Made    time.Time
	Members []string
	Admins  map[string]bool
}

func (g *Group) jid() types.JID { return types.NewJID(g.ID, types.GroupServer) }

// CreateGroup makes a group; members and admins are digits.
func (n *Network) CreateGroup(subject string, members, admins []string) *Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := n.newGroup(subject, members, admins)
	for _, member := range members {
		n.tellGroup(group, member, members[0], Node{Tag: "create", Attrs: Attrs{"type": "new"}, Content: []Node{n.groupNode(group)}})
	}
	return group
}

// ChangeGroup adds and removes members, and tells the accounts among them.
func (n *Network) ChangeGroup(id string, add, remove []string) (*Group, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := n.groups[id]
	if group == nil {
		return nil, ErrNoGroup
	}
	n.changeGroup(group, "", add, remove)
	return group, nil
}

func (n *Network) newGroup(subject string, members, admins []string) *Group {
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	id := "1203630" + strconv.FormatUint(binary.BigEndian.Uint64(random)%1e11+1e11, 10)
	group := &Group{ID: id, Subject: subject, Made: time.Now(), Admins: map[string]bool{}}
	for _, member := range members {
		if !slices.Contains(group.Members, member) {
			group.Members = append(group.Members, member)
		}
	}
	for _, admin := range admins {
		group.Admins[admin] = true
	}
	n.groups[id] = group
	return group
}

func (n *Network) changeGroup(group *Group, by string, add, remove []string) {
	var added, removed []Node
	told := slices.Clone(group.Members)
	for _, member := range add {
		if !slices.Contains(group.Members, member) {
			group.Members = append(group.Members, member)
			added = append(added, n.participant(group, member))
			told = append(told, member)
		}
	}
	for _, member := range remove {
		if at := slices.Index(group.Members, member); at >= 0 {
			removed = append(removed, n.participant(group, member))
			group.Members = slices.Delete(group.Members, at, at+1)
			delete(group.Admins, member)
		}
	}
	if by == "" && len(told) > 0 {
		by = told[0]
	}
	for _, member := range told {
		if len(added) > 0 {
			n.tellGroup(group, member, by, Node{Tag: "add", Content: added})
		}
		if len(removed) > 0 {
			n.tellGroup(group, member, by, Node{Tag: "remove", Content: removed})
		}
	}
}

// tellGroup tells one member of a change that somebody made.
func (n *Network) tellGroup(group *Group, member, by string, change Node) {
	id := rand.Text()[:16]
	n.deliver(n.person(member), &pending{key: "notification|" + id, node: &Node{
		Tag: "notification", Attrs: Attrs{
			"from": group.jid(), "type": "w:gp2", "id": id, "t": now(), "addressing_mode": "lid",
			"participant": n.person(by).lid(), "participant_pn": n.person(by).jid(),
		}, Content: []Node{change},
	}})
}

func (n *Network) participant(group *Group, member string) Node {
	person := n.person(member)
	attrs := Attrs{"jid": person.lid()}
	if !n.settings.Hidden[member] {
		attrs["phone_number"] = person.jid()
	}
	if group.Admins[member] {
		attrs["type"] = "admin"
	}
	return Node{Tag: "participant", Attrs: attrs}
}

func (n *Network) groupNode(group *Group) Node {
	participants := make([]Node, 0, len(group.Members))
	for _, member := range group.Members {
		participants = append(participants, n.participant(group, member))
	}
	made := strconv.FormatInt(group.Made.Unix(), 10)
	return Node{Tag: "group", Attrs: Attrs{
		"id": group.ID, "subject": group.Subject, "creation": made, "s_t": made, "addressing_mode": "lid",
		"size": strconv.Itoa(len(group.Members)), "p_v_id": "1", "a_v_id": "1",
	}, Content: participants}
}

func (c *client) groupQuery(node *Node, child Node) {
	n := c.network
	to, _ := node.Attrs["to"].(types.JID)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch child.Tag {
	case "participating":
		var groups []Node
		for _, group := range n.groups {
			if slices.Contains(group.Members, c.account.Digits) {
				groups = append(groups, n.groupNode(group))
			}
		}
		c.result(node, Node{Tag: "groups", Content: groups})
		return
	case "create":
		subject, _ := child.Attrs["subject"].(string)
		members := append([]string{c.account.Digits}, n.numbers(child)...)
		c.result(node, n.groupNode(n.newGroup(subject, members, members[:1])))
		return
	case "leave":
		for _, left := range child.GetChildren() {
			jid, _ := left.Attrs["id"].(types.JID)
			if group := n.groups[jid.User]; group != nil {
				n.changeGroup(group, c.account.Digits, nil, []string{c.account.Digits})
			}
		}
		c.result(node)
		return
	}
	group := n.groups[to.User]
	switch {
	case group == nil:
		c.fail(node, "404", "item-not-found")
	case !slices.Contains(group.Members, c.account.Digits):
		c.fail(node, "403", "forbidden")
	case child.Tag == "query":
		c.result(node, n.groupNode(group))
	case (child.Tag == "add" || child.Tag == "remove") && !group.Admins[c.account.Digits]:
		c.fail(node, "403", "forbidden")
	case child.Tag == "add":
		n.changeGroup(group, c.account.Digits, n.numbers(child), nil)
		c.result(node, Node{Tag: "add", Content: child.GetChildren()})
	case child.Tag == "remove":
		n.changeGroup(group, c.account.Digits, nil, n.numbers(child))
		c.result(node, Node{Tag: "remove", Content: child.GetChildren()})
	default:
		c.result(node)
	}
}

func (n *Network) numbers(list Node) []string {
	var numbers []string
	for _, child := range list.GetChildren() {
		jid, _ := child.Attrs["jid"].(types.JID)
		if number, ok := n.numberOf(jid); ok {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
