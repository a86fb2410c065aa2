package network

import "go.mau.fi/whatsmeow/types"

// blocklistQuery says whom an account has blocked, after it has blocked somebody, or blocks them no more.
func (c *client) blocklistQuery(node *Node, item Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if item.Tag == "item" {
		jid, _ := item.Attrs["jid"].(types.JID)
		number, registered := n.numberOf(jid)
		if !registered {
			c.fail(node, "404", "item-not-found")
			return
		}
		if number == c.account.Digits {
			c.fail(node, "400", "bad-request")
			return
		}
		if item.Attrs["action"] == "block" {
			if c.account.blocked == nil {
				c.account.blocked = map[string]struct{}{}
			}
			c.account.blocked[number] = struct{}{}
		} else {
			delete(c.account.blocked, number)
		}
	}
	var people []Node
	for number := range c.account.blocked {
		people = append(people, Node{Tag: "item", Attrs: Attrs{"jid": n.person(number).lid()}})
	}
	c.result(node, Node{Tag: "list", Attrs: Attrs{"dhash": "0"}, Content: people})
}

// hasBlocked says whether what a person writes to an account in a chat of two is dropped.
func (a *Account) hasBlocked(author *Account) bool {
	_, blocked := a.blocked[author.Digits]
	return blocked
}
