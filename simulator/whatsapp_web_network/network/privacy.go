package network

import (
	"slices"
	"strconv"
)

// privacyValues are what each of the privacy settings can be.
var privacyValues = map[string][]string{
	"last": {"all", "contacts", "none"}, "profile": {"all", "contacts", "none"}, "status": {"all", "contacts", "none"},
	"groupadd": {"all", "contacts", "none"}, "online": {"all", "match_last_seen"}, "calladd": {"all", "known"}, "readreceipts": {"all", "none"},
}

// maxDisappear is the longest that a message may wait to disappear, in seconds.
const maxDisappear = 90 * 86_400

// privacyQuery says to whom the account shows what, or changes that.
func (c *client) privacyQuery(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if node.Attrs["type"] == "set" {
		for _, category := range child.GetChildren() {
			name, value := text(category.Attrs["name"]), text(category.Attrs["value"])
			if !slices.Contains(privacyValues[name], value) {
				c.fail(node, "400", "bad-request")
				return
			}
			if c.account.profile.privacy == nil {
				c.account.profile.privacy = map[string]string{}
			}
			c.account.profile.privacy[name] = value
		}
		c.result(node)
		return
	}
	var categories []Node
	for name := range privacyValues {
		value := c.account.profile.privacy[name]
		if value == "" {
			value = "all"
		}
		categories = append(categories, Node{Tag: "category", Attrs: Attrs{"name": name, "value": value}})
	}
	c.result(node, Node{Tag: "privacy", Content: categories})
}

// statusPrivacyQuery says who sees the account's status posts.
func (c *client) statusPrivacyQuery(node *Node) {
	c.result(node, Node{Tag: "privacy", Content: []Node{{Tag: "list", Attrs: Attrs{"type": "contacts", "default": "true"}}}})
}

// disappearingQuery changes after how long messages of new chats disappear.
func (c *client) disappearingQuery(node *Node, child Node) {
	seconds, err := strconv.Atoi(text(child.Attrs["duration"]))
	if err != nil || seconds < 0 || seconds > maxDisappear {
		c.fail(node, "400", "bad-request")
		return
	}
	c.network.mu.Lock()
	c.account.profile.disappear = seconds
	c.network.mu.Unlock()
	c.result(node)
}
