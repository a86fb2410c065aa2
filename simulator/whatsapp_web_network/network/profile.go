package network

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waVnameCert"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// maxPicture is how large a picture may be, in bytes.
const maxPicture = 2 << 20

// profile is what somebody shows, and to whom.
type profile struct {
	about     string
	pictureID string
	picture   []byte
	business  []Node            // what their business profile has; nil: they are none
	privacy   map[string]string // where it is not "all"
	disappear int               // seconds after which messages of new chats go
}

// Showing is what a person shows from now on; nil: as before.
type Showing struct {
	PushName *string
	About    *string
	Picture  []byte // with HasPicture
	Business *bool

	HasPicture bool
}

// Show changes what a person shows.
func (n *Network) Show(number string, change Showing) {
	n.mu.Lock()
	defer n.mu.Unlock()
	person := n.person(number)
	if change.PushName != nil {
		person.PushName = *change.PushName
	}
	if change.About != nil {
		person.profile.about = *change.About
	}
	if change.HasPicture {
		person.show(change.Picture)
	}
	n.tellShown(person, change)
	if change.Business != nil {
		if !*change.Business {
			person.profile.business = nil
		} else if person.profile.business == nil {
			person.profile.business = []Node{}
		}
	}
}

// tellShown tells the accounts that have asked about a person what they show from now on.
func (n *Network) tellShown(person *Account, change Showing) {
	for _, account := range n.accounts {
		if _, knows := account.knows[person.Digits]; !knows || account == person {
			continue
		}
		if change.About != nil && account.sees(person, "status") {
			n.notify(account, person, "status", Node{Tag: "set", Content: []byte(person.profile.about)})
		}
		if change.HasPicture && account.sees(person, "profile") {
			told := Node{Tag: "set", Attrs: Attrs{"jid": person.lid(), "id": person.profile.pictureID}}
			if person.profile.pictureID == "" {
				told = Node{Tag: "delete", Attrs: Attrs{"jid": person.lid()}}
			}
			n.notify(account, person, "picture", told)
		}
	}
}

// notify brings a notification about a person to an account's device.
func (n *Network) notify(account, person *Account, kind string, told Node) {
	id := rand.Text()[:16]
	n.deliver(account, &pending{key: "notification|" + id, node: &Node{Tag: "notification", Attrs: Attrs{
		"from": person.lid(), "type": kind, "id": id, "t": now(),
	}, Content: []Node{told}}})
}

// show has somebody show a picture; none where it is empty.
func (a *Account) show(picture []byte) {
	a.profile.picture, a.profile.pictureID = picture, ""
	if len(picture) > 0 {
		a.profile.pictureID = strconv.FormatInt(time.Now().UnixMicro(), 10)
	}
}

// sees says whether a viewer is shown something of a person. Whom people have in their address books this network cannot read.
func (a *Account) sees(person *Account, what string) bool {
	if a == person {
		return true
	}
	return !person.hasBlocked(a) && person.profile.privacy[what] != "none"
}

// shownNodes are what a person shows, of what is asked for.
func (n *Network) shownNodes(viewer, person *Account, asked map[string]bool) []Node {
	var nodes []Node
	if asked["status"] {
		about := ""
		if viewer.sees(person, "status") {
			about = person.profile.about
		}
		nodes = append(nodes, Node{Tag: "status", Attrs: Attrs{"t": now()}, Content: []byte(about)})
	}
	if asked["picture"] && person.profile.pictureID != "" && viewer.sees(person, "profile") {
		nodes = append(nodes, Node{Tag: "picture", Attrs: Attrs{"id": person.profile.pictureID}})
	}
	if asked["business"] && person.profile.business != nil {
		nodes = append(nodes, Node{Tag: "business", Content: []Node{{Tag: "verified_name", Attrs: Attrs{
			"verified_level": "unknown", "v": "1",
		}, Content: verifiedName(person.PushName)}}})
	}
	if asked["disappearing_mode"] {
		nodes = append(nodes, Node{Tag: "disappearing_mode", Attrs: Attrs{"duration": strconv.Itoa(person.profile.disappear), "t": now()}})
	}
	return nodes
}

func verifiedName(name string) []byte {
	details, _ := proto.Marshal(&waVnameCert.VerifiedNameCertificate_Details{VerifiedName: &name})
	certificate, _ := proto.Marshal(&waVnameCert.VerifiedNameCertificate{Details: details})
	return certificate
}

// pictureQuery says where a person's picture is, or changes the account's own.
func (c *client) pictureQuery(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	target, named := node.Attrs["target"].(types.JID)
	if node.Attrs["type"] == "set" {
		c.changePicture(node, child, named)
		return
	}
	person := n.find(target)
	switch {
	case person == nil:
		c.fail(node, "404", "item-not-found")
	case !c.account.sees(person, "profile"):
		c.fail(node, "401", "not-authorized")
	case person.profile.pictureID == "":
		c.fail(node, "404", "item-not-found")
	case text(child.Attrs["id"]) == person.profile.pictureID:
		c.result(node, Node{Tag: "picture", Attrs: Attrs{"status": "304"}})
	default:
		kind, path := text(child.Attrs["type"]), "/v/"+person.Digits+"/"+person.profile.pictureID
		c.result(node, Node{Tag: "picture", Attrs: Attrs{
			"id": person.profile.pictureID, "url": "https://pps.whatsapp.net" + path, "type": kind, "direct_path": path,
		}})
	}
}

func (c *client) changePicture(node *Node, child Node, ofGroup bool) {
	picture, _ := child.Content.([]byte)
	switch {
	case ofGroup:
		c.fail(node, "403", "forbidden")
	case child.Tag == "picture" && (!bytes.HasPrefix(picture, []byte("\xff\xd8\xff")) || len(picture) > maxPicture):
		c.fail(node, "406", "not-acceptable")
	default:
		c.account.show(picture)
		if len(picture) == 0 {
			c.result(node)
		} else {
			c.result(node, Node{Tag: "picture", Attrs: Attrs{"id": c.account.profile.pictureID}})
		}
	}
}

// servePicture gives the bytes of a picture to whoever knows where it is.
func (n *Network) servePicture(w http.ResponseWriter, r *http.Request) {
	number, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v/"), "/")
	n.mu.Lock()
	var picture []byte
	if person := n.people[number]; person != nil && person.profile.pictureID == id {
		picture = person.profile.picture
	}
	n.mu.Unlock()
	if picture == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	_, _ = w.Write(picture)
}

// businessQuery says what a business shows, or changes what the account shows as one.
func (c *client) businessQuery(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if node.Attrs["type"] == "set" {
		if c.account.profile.business == nil {
			c.fail(node, "403", "forbidden")
			return
		}
		c.account.changeBusiness(child.GetChildren())
		c.result(node)
		return
	}
	asked := child.GetChildByTag("profile")
	jid, _ := asked.Attrs["jid"].(types.JID)
	person := n.find(jid)
	if person == nil {
		c.fail(node, "404", "item-not-found")
		return
	}
	answer := Node{Tag: "business_profile", Attrs: Attrs{"v": "244"}}
	if person.profile.business != nil {
		had := append([]Node{{Tag: "profile_options"}}, person.profile.business...)
		answer.Content = []Node{{Tag: "profile", Attrs: Attrs{"jid": jid, "tag": "1"}, Content: had}}
	}
	c.result(node, answer)
}

func (a *Account) changeBusiness(changes []Node) {
	changed := map[string]bool{}
	for _, change := range changes {
		changed[change.Tag] = true
	}
	kept := []Node{}
	for _, had := range a.profile.business {
		if !changed[had.Tag] {
			kept = append(kept, had)
		}
	}
	for _, change := range changes {
		content, is := change.Content.([]byte)
		if is && len(content) == 0 || change.Tag == "business_hours" && change.Attrs["timezone"] == nil {
			continue
		}
		kept = append(kept, change)
	}
	a.profile.business = kept
}

// aboutMutation is what clients change their text with.
const aboutMutation = "9152604461510864"

// changeAbout changes the account's text.
func (c *client) changeAbout(node *Node, child Node) {
	var said struct {
		Variables struct {
			Input struct {
				Text string `json:"text"`
			} `json:"input"`
		} `json:"variables"`
	}
	payload, _ := child.Content.([]byte)
	if json.Unmarshal(payload, &said) != nil {
		c.fail(node, "400", "bad-request")
		return
	}
	c.network.mu.Lock()
	c.account.profile.about = said.Variables.Input.Text
	c.network.mu.Unlock()
	c.result(node, Node{Tag: "result", Content: []byte(`{"data":{"updated":"` + rand.Text() + `"}}`)})
}
