package network

import (
	"strconv"

	"go.mau.fi/whatsmeow/types"
)

// query answers what a client asks. What the network does not know is answered as done: clients ask for much at their start
// that nobody here depends on.
func (c *client) query(node *Node) {
	if node.Attrs["type"] == "result" || node.Attrs["type"] == "error" {
		return
	}
	space, _ := node.Attrs["xmlns"].(string)
	var child Node
	if children := node.GetChildren(); len(children) > 0 {
		child = children[0]
	}
	switch space {
	case "encrypt":
		c.keyQuery(node, child)
	case "usync":
		c.result(node, c.network.usync(c.account, child))
	case "w:m":
		c.result(node, Node{Tag: "media_conn", Attrs: Attrs{
			"auth": "sim", "ttl": "3600", "auth_ttl": "3600", "max_buckets": "12",
		}, Content: []Node{{Tag: "host", Attrs: Attrs{"hostname": c.network.Address}}}})
	case "newsletter":
		c.newsletterQuery(node, child)
	case "w:g2":
		c.groupQuery(node, child)
	case "w:sync:app:state":
		c.result(node, c.network.appState(c.account, child))
	case "w:profile:picture":
		if target, _ := node.Attrs["target"].(types.JID); target.Server == types.GroupServer {
			c.groupPictureQuery(node, target, child)
			return
		}
		c.pictureQuery(node, child)
	case "w:biz":
		c.businessQuery(node, child)
	case "w:mex":
		if child.Attrs["query_id"] == aboutMutation {
			c.changeAbout(node, child)
		} else if mexAsked[text(child.Attrs["query_id"])] != nil {
			c.mexQuery(node, child)
		} else {
			c.result(node)
		}
	case "privacy":
		c.privacyQuery(node, child)
	case "status":
		c.statusPrivacyQuery(node)
	case "disappearing_mode":
		c.disappearingQuery(node, child)
	case "blocklist":
		c.blocklistQuery(node, child)
	case "md":
		if child.Tag == "remove-companion-device" {
			c.result(node)
			c.network.mu.Lock()
			c.network.logOut(c.account)
			c.network.mu.Unlock()
			return
		}
		c.result(node)
	default:
		c.result(node)
	}
}

func (c *client) keyQuery(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case child.Tag == "count":
		c.result(node, Node{Tag: "count", Attrs: Attrs{"value": strconv.Itoa(len(c.device.oneTime))}})
	case node.Attrs["type"] == "set":
		c.device.learnKeys(node)
		c.result(node)
		if !c.device.welcomed && len(c.device.oneTime) > 0 {
			c.device.welcomed = true
			go n.welcome(c.account)
		}
	case child.Tag == "key":
		var users []Node
		for _, user := range child.GetChildren() {
			jid, _ := user.Attrs["jid"].(types.JID)
			users = append(users, Node{Tag: "user", Attrs: Attrs{"jid": jid}, Content: n.keysFor(jid)})
		}
		c.result(node, Node{Tag: "list", Content: users})
	case child.Tag == "digest":
		c.fail(node, "404", "item-not-found")
	default:
		c.result(node)
	}
}

// keysFor is what somebody needs to write to a device first.
func (n *Network) keysFor(jid types.JID) []Node {
	account := n.find(jid)
	if account != nil && jid.Device == 0 {
		return n.phoneOf(account).Bundle()
	}
	if account != nil && account.device != nil && account.device.jid.Device == jid.Device &&
		account.device.signed.Tag != "" {
		e := account.effects.Load()
		return account.device.bundle(e != nil && e.repeatKeys)
	}
	return []Node{{Tag: "error", Attrs: Attrs{"code": "404", "text": "item-not-found"}}}
}

// text is an attribute's value, which the codec gives as a string or a number.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case types.JID:
		return v.String()
	}
	return ""
}
