package network

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/types"
)

const (
	// mostMembers is how many a group may have.
	mostMembers = 1024
	// What a group's name and description may have, in characters.
	longestSubject     = 100
	longestDescription = 2048
)

// ErrNoGroup says that there is no such group.
var ErrNoGroup = errors.New("there is no such group")

// Denied is why the network does not do with a group what somebody asks for, by its number.
type Denied int

// The network's numbers.
const (
	deniedRequest     Denied = 400
	deniedToMembers   Denied = 401 // only administrators may
	deniedToStrangers Denied = 403 // only members may; of somebody to be added: their privacy does not allow it
	deniedUnknown     Denied = 404
	deniedText        Denied = 406
	deniedConflict    Denied = 409
	deniedEnded       Denied = 410
	deniedFull        Denied = 419
)

func (d Denied) Error() string { return "the network refuses it with " + strconv.Itoa(int(d)) }

// Group is a conversation of several; its members are numbers, in the order they came. A community is a group as well, whose
// members are those of its groups.
type Group struct {
	ID      string
	Subject string
	Made    time.Time
	Members []string
	Admins  map[string]bool

	creator       string // who made it
	owner         string // the same, as long as they are in it
	named         time.Time
	description   string
	descriptionID string
	described     time.Time
	announce      bool
	locked        bool
	approval      bool
	adminsAdd     bool
	timer         int // seconds; 0: messages stay
	code          string
	invitations   map[string]string // codes, by the numbers of who is invited
	requests      []membershipRequest
	former        map[string]bool // who was a member
	picture       *groupPicture

	parent        bool   // it is a community
	community     string // the id of that which it is linked to
	announcements bool   // it is that one's group for announcements
}

// membershipRequest is of somebody who wants to join.
type membershipRequest struct {
	number string
	since  time.Time
	method string
	by     string // the member who wants to add them
}

func (g *Group) jid() types.JID { return types.NewJID(g.ID, types.GroupServer) }

func (g *Group) has(number string) bool { return slices.Contains(g.Members, number) }

// CreateGroup makes a group; members and admins are digits.
func (n *Network) CreateGroup(subject string, members, admins []string) *Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := n.newGroup(subject, members[0], members, admins)
	n.tellOfNew(group, members[0])
	return group
}

// ChangeGroup adds and removes members, and tells the accounts among them; nobody has to allow it.
func (n *Network) ChangeGroup(id string, add, remove []string) (*Group, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := n.groups[id]
	if group == nil {
		return nil, ErrNoGroup
	}
	by := group.creator
	if len(group.Members) > 0 {
		by = group.Members[0]
	}
	n.take(group, by, add, "")
	n.drop(group, by, remove)
	return group, nil
}

func (n *Network) newGroup(subject, creator string, members, admins []string) *Group {
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	id := "1203630" + strconv.FormatUint(binary.BigEndian.Uint64(random)%1e11+1e11, 10)
	group := &Group{
		ID: id, Subject: subject, Made: time.Now(), named: time.Now(), Admins: map[string]bool{}, creator: creator,
		code: newInviteCode(), invitations: map[string]string{}, former: map[string]bool{},
	}
	for _, member := range members {
		if !group.has(member) {
			group.Members = append(group.Members, member)
		}
	}
	for _, admin := range admins {
		group.Admins[admin] = true
	}
	if group.Admins[creator] {
		group.owner = creator
	}
	n.groups[id] = group
	return group
}

// creation is a group that somebody wants to make.
type creation struct {
	subject   string
	members   []string
	parent    bool
	approval  bool
	announce  bool
	locked    bool
	adminsAdd bool
	timer     int
	community string
}

// create makes a group for somebody, and says who of those named is not in it, and why.
func (n *Network) create(by string, asked creation) (*Group, []outcome, error) {
	if characters := utf8.RuneCountInString(asked.subject); characters == 0 || characters > longestSubject {
		return nil, nil, deniedText
	}
	var community *Group
	if asked.community != "" {
		var err error
		if community, err = n.administered(by, asked.community); err != nil {
			return nil, nil, err
		}
		if !community.parent {
			return nil, nil, deniedUnknown
		}
	}
	group := n.newGroup(asked.subject, by, []string{by}, []string{by})
	group.parent, group.approval, group.announce = asked.parent, asked.approval, asked.announce
	group.locked, group.adminsAdd, group.timer = asked.locked, asked.adminsAdd, asked.timer
	var outcomes []outcome
	for _, member := range asked.members {
		if member == by {
			continue
		}
		added := n.admit(group, by, member)
		if added.code == 0 {
			group.Members = append(group.Members, member)
		}
		outcomes = append(outcomes, added)
	}
	n.tellOfNew(group, by)
	if group.parent {
		n.newAnnouncements(group, by)
	}
	if community != nil {
		n.link(community, group, by)
	}
	return group, outcomes, nil
}

// visible is a group that somebody is in.
func (n *Network) visible(number, id string) (*Group, error) {
	group := n.groups[id]
	switch {
	case group == nil:
		return nil, deniedUnknown
	case !group.has(number):
		return nil, deniedToStrangers
	}
	return group, nil
}

// administered is a group that somebody is an administrator of.
func (n *Network) administered(number, id string) (*Group, error) {
	group, err := n.visible(number, id)
	if err == nil && !group.Admins[number] {
		return nil, deniedToMembers
	}
	return group, err
}

// tellOfNew tells everybody in a new group of it.
func (n *Network) tellOfNew(group *Group, by string) {
	for _, member := range group.Members {
		n.tellOfEntering(group, member, by, Attrs{"type": "new"})
	}
}

// tellOfEntering tells somebody that they are in a group now.
func (n *Network) tellOfEntering(group *Group, member, by string, attrs Attrs) {
	if n.person(member).device != nil { // else the node, of a thousand members, is made for nobody
		n.tellGroup(group, member, by, Node{Tag: "create", Attrs: attrs, Content: []Node{n.groupNode(group)}})
	}
}

// tellMembers tells all members of a change that somebody made.
func (n *Network) tellMembers(group *Group, by string, change ...Node) {
	for _, member := range group.Members {
		n.tellGroup(group, member, by, change...)
	}
}

// tellGroup tells one person of a change that somebody made.
func (n *Network) tellGroup(group *Group, member, by string, change ...Node) {
	id := rand.Text()[:16]
	author := n.person(by)
	attrs := Attrs{
		"from": group.jid(), "type": "w:gp2", "id": id, "t": now(), "addressing_mode": "lid", "participant": author.lid(),
	}
	if !n.settings.Hidden[by] {
		attrs["participant_pn"] = author.jid()
	}
	n.deliver(n.person(member), &pending{
		key: "notification|" + id, node: &Node{Tag: "notification", Attrs: attrs, Content: change},
	})
}

func (n *Network) participant(group *Group, member string) Node {
	person := n.person(member)
	attrs := Attrs{"jid": person.lid()}
	if !n.settings.Hidden[member] {
		attrs["phone_number"] = person.jid()
	}
	switch {
	case group.owner == member:
		attrs["type"] = "superadmin"
	case group.Admins[member]:
		attrs["type"] = "admin"
	}
	return Node{Tag: "participant", Attrs: attrs}
}

// groupNode is a group as its members are told of it.
func (n *Network) groupNode(group *Group) Node {
	node := n.outlineOf(group)
	children, _ := node.Content.([]Node)
	for _, member := range group.Members {
		children = append(children, n.participant(group, member))
	}
	node.Content = children
	return node
}

// outlineOf is a group without its members, as others see it who were invited.
func (n *Network) outlineOf(group *Group) Node {
	attrs := Attrs{
		"id": group.ID, "subject": group.Subject, "creation": epoch(group.Made), "s_t": epoch(group.named),
		"s_o": n.person(group.creator).lid(), "creator": n.person(group.creator).lid(), "addressing_mode": "lid",
		"size": strconv.Itoa(len(group.Members)), "p_v_id": "1", "a_v_id": "1",
	}
	if !n.settings.Hidden[group.creator] {
		attrs["creator_pn"], attrs["s_o_pn"] = n.person(group.creator).jid(), n.person(group.creator).jid()
	}
	addMode := "all_member_add"
	if group.adminsAdd {
		addMode = "admin_add"
	}
	children := []Node{{Tag: "member_add_mode", Content: []byte(addMode)}}
	if group.description != "" {
		children = append(children, Node{Tag: "description", Attrs: Attrs{
			"id": group.descriptionID, "t": epoch(group.described),
		}, Content: []Node{{Tag: "body", Content: []byte(group.description)}}})
	}
	if group.approval {
		children = append(children, approvalNode("on"))
	}
	if group.timer > 0 {
		children = append(children, ephemeralNode(group.timer))
	}
	for tag, is := range map[string]bool{
		"announcement": group.announce, "locked": group.locked, "default_sub_group": group.announcements,
	} {
		if is {
			children = append(children, Node{Tag: tag})
		}
	}
	if group.parent {
		children = append(children, Node{Tag: "parent", Attrs: Attrs{"default_membership_approval_mode": "request_required"}})
	}
	if group.community != "" {
		children = append(children, Node{Tag: "linked_parent", Attrs: Attrs{"jid": types.NewJID(group.community, types.GroupServer)}})
	}
	return Node{Tag: "group", Attrs: attrs, Content: children}
}

func epoch(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
