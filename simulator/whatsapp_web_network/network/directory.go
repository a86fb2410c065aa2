package network

import (
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// knownPeople is of how many people an account is told what they show.
const knownPeople = 10_000

// usync answers who people are: whether they are on the network, their hidden ids and their devices.
func (n *Network) usync(viewer *Account, question Node) Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := map[string]bool{}
	query := question.GetChildByTag("query")
	for _, part := range query.GetChildren() {
		asked[part.Tag] = true
	}
	list := question.GetChildByTag("list")
	if viewer.knows == nil {
		viewer.knows = map[string]struct{}{}
	}
	var users []Node
	for _, user := range list.GetChildren() {
		users = append(users, n.usyncUser(viewer, user, asked))
	}
	return Node{Tag: "usync", Attrs: Attrs{
		"sid": question.Attrs["sid"], "index": "0", "last": "true", "mode": question.Attrs["mode"],
		"context": question.Attrs["context"],
	}, Content: []Node{{Tag: "result"}, {Tag: "list", Content: users}}}
}

func (n *Network) usyncUser(viewer *Account, user Node, asked map[string]bool) Node {
	jid, named := user.Attrs["jid"].(types.JID)
	contact := user.GetChildByTag("contact")
	if !named {
		jid = types.NewJID(n.lasting(contactNumber(contact)), types.DefaultUserServer)
	}
	number, registered := n.numberOf(jid)
	attrs := Attrs{"jid": jid}
	var answers []Node
	if asked["contact"] {
		kind := "out"
		if registered {
			kind = "in"
		}
		answers = append(answers, Node{Tag: "contact", Attrs: Attrs{"type": kind}, Content: contact.Content})
	}
	if !registered {
		return Node{Tag: "user", Attrs: attrs, Content: answers}
	}
	if len(viewer.knows) < knownPeople {
		viewer.knows[number] = struct{}{}
	}
	lid := types.NewJID(hiddenIDOf(number), types.HiddenUserServer)
	if !named {
		attrs["jid"], attrs["pn_jid"] = lid, jid
	}
	if asked["devices"] {
		answers = append(answers, Node{Tag: "devices", Content: []Node{
			{Tag: "device-list", Content: n.deviceList(number)},
		}})
	}
	if asked["lid"] {
		answers = append(answers, Node{Tag: "lid", Attrs: Attrs{"val": lid}})
	}
	if name := n.settings.Usernames[number]; name != "" && asked["username"] {
		answers = append(answers, Node{Tag: "username", Content: []byte(name)})
	}
	answers = append(answers, n.shownNodes(viewer, n.person(number), asked)...)
	return Node{Tag: "user", Attrs: attrs, Content: answers}
}

// deviceList is the phone and, if there is one, the linked device of a number.
func (n *Network) deviceList(number string) []Node {
	devices := []Node{{Tag: "device", Attrs: Attrs{"id": "0"}}}
	if account := n.people[number]; account != nil && account.device != nil {
		id := strconv.Itoa(int(account.device.jid.Device))
		// Some clients pass over linked devices without the index of their key.
		devices = append(devices, Node{Tag: "device", Attrs: Attrs{"id": id, "key-index": id}})
	}
	return devices
}

// lasting is the number that somebody in Brazil has kept on the network since before all mobile numbers there got a ninth
// digit; any other number as it is.
func (n *Network) lasting(number string) string {
	if strings.HasPrefix(number, "55") && len(number) == 13 && number[4] == '9' {
		if before := number[:4] + number[5:]; n.people[before] != nil {
			return before
		}
	}
	return number
}

func contactNumber(contact Node) string {
	var number string
	switch content := contact.Content.(type) {
	case []byte:
		number = string(content)
	case string:
		number = content
	}
	number, _, _ = strings.Cut(number, "@")
	return strings.TrimPrefix(number, "+")
}

// versioned gives a patch of settings the version that it makes.
func versioned(patch []byte, version uint64) []byte {
	var parsed waServerSync.SyncdPatch
	if err := proto.Unmarshal(patch, &parsed); err != nil {
		return patch
	}
	parsed.Version = &waServerSync.SyncdVersion{Version: &version}
	out, err := proto.Marshal(&parsed)
	if err != nil {
		return patch
	}
	return out
}
