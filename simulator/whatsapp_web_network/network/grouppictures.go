package network

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// groupPicture is what a group shows; where its file is, its id says.
type groupPicture struct {
	id string
}

var beginOfJPEG = []byte{0xff, 0xd8, 0xff}

// groupPictureQuery answers which picture a group shows, or has it show another one.
func (c *client) groupPictureQuery(node *Node, target types.JID, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if node.Attrs["type"] == "set" {
		data, _ := child.Content.([]byte)
		id, err := n.setPicture(c.account.Digits, target.User, data)
		switch {
		case err != nil:
			c.refuseGroup(node, err)
		case id == "":
			c.result(node)
		default:
			c.result(node, Node{Tag: "picture", Attrs: Attrs{"id": id}})
		}
		return
	}
	picture, err := n.pictureNode(c.account.Digits, target.User, child)
	if err != nil {
		c.refuseGroup(node, err)
		return
	}
	c.result(node, picture)
}

// pictureNode says where the picture of a group is, which somebody is in, or has the link of.
func (n *Network) pictureNode(number, id string, asked Node) (Node, error) {
	group, err := n.visible(number, id)
	if code := text(asked.Attrs["invite"]); code != "" {
		group, err = n.byCode(code)
	}
	switch {
	case err == deniedToStrangers:
		return Node{}, deniedToMembers // as of a person whose privacy does not allow it
	case err != nil:
		return Node{}, err
	case group.picture == nil:
		return Node{}, deniedUnknown
	case text(asked.Attrs["id"]) == group.picture.id:
		return Node{Tag: "picture", Attrs: Attrs{"status": "304"}}, nil
	}
	path := "/mms/picture/" + pictureName(group.picture.id)
	return Node{Tag: "picture", Attrs: Attrs{
		"id": group.picture.id, "type": text(asked.Attrs["type"]), "url": "https://" + n.Address + path, "direct_path": path,
	}}, nil
}

func pictureName(id string) string { return "picture-" + id }

// setPicture has a group show a JPEG, nil: none any more, and returns its id.
func (n *Network) setPicture(by, id string, data []byte) (string, error) {
	group, err := n.changeable(by, id)
	if err != nil {
		return "", err
	}
	if data == nil {
		if group.picture != nil {
			group.picture = nil
			n.tellOfPicture(group, by, Node{Tag: "delete", Attrs: Attrs{"jid": group.jid(), "author": n.person(by).lid()}})
		}
		return "", nil
	}
	if !bytes.HasPrefix(data, beginOfJPEG) {
		return "", deniedText
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	group.picture = &groupPicture{id: strconv.FormatUint(uint64(time.Now().Unix())<<12|uint64(binary.BigEndian.Uint32(random)>>20), 10)}
	n.media.put(pictureName(group.picture.id), data)
	n.tellOfPicture(group, by, Node{Tag: "set", Attrs: Attrs{
		"jid": group.jid(), "id": group.picture.id, "author": n.person(by).lid(),
	}})
	return group.picture.id, nil
}

func (n *Network) tellOfPicture(group *Group, by string, change Node) {
	for _, member := range group.Members {
		id := rand.Text()[:16]
		n.deliver(n.person(member), &pending{key: "notification|" + id, node: &Node{Tag: "notification", Attrs: Attrs{
			"from": group.jid(), "type": "picture", "id": id, "t": now(), "participant": n.person(by).lid(),
		}, Content: []Node{change}}})
	}
}
