package network

import (
	"crypto/rand"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/content"
	"sessionmesh.dev/whatsapp-web-network/ledger"
)

const (
	mostPosts = 100
	// How long an account is told of changes that asked for it.
	watchedFor = 5 * time.Minute
	// How long a post can be changed.
	changeable = 30 * 24 * time.Hour
	// How stanzas say that a post is edited, or taken back, by whoever runs the channel.
	editedByAdmin = "3"
)

// post is what was posted, as its author's client wrote it.
type post struct {
	number       int
	id, kind     string
	said         []byte
	made, edited time.Time
	views        int
	others       map[string]int
	given        map[string]string // with what accounts have reacted, by their numbers
}

// acceptPost takes a message of a client to a channel, or refuses it, and passes it on.
func (n *Network) acceptPost(c *client, m *sent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.account.Counter++
	channel := n.channelAt(m.to)
	plain := m.node.GetChildByTag("plaintext")
	said, _ := plain.Content.([]byte)
	edit, reacting := text(m.node.Attrs["edit"]), m.node.Attrs["type"] == "reaction"
	refused := 0
	switch {
	case channel == nil:
		refused = 404
	case reacting:
		refused = n.react(channel, c.account, m)
	case !channel.runBy(c.account.Digits):
		refused = 403
	case edit != "":
		refused = n.changePost(channel, c.account, m, edit, said)
	case !c.account.remember(m.id):
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_RESENT, 0, nil)
	default:
		m.serverID = n.post(channel, m.id, text(m.node.Attrs["type"]), said, c.account).number
	}
	if refused != 0 {
		reason := simnetv1.RejectReason_REJECT_REASON_NOT_A_MEMBER
		if refused == 404 {
			reason = simnetv1.RejectReason_REJECT_REASON_UNKNOWN_RECIPIENT
		}
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_REJECTED, uint32(reason), nil)
		n.acknowledge(m, strconv.Itoa(refused))
		return
	}
	if known := channel.byID[m.id]; known != nil {
		m.serverID = known.number
	}
	if edit == "" || reacting {
		digest := content.DigestOf([]byte(m.id))
		var message waE2E.Message
		if said != nil && proto.Unmarshal(said, &message) == nil {
			digest = content.Digest(&message)
		}
		n.record(m, simulatorv1.LedgerKind_LEDGER_KIND_ACCEPTED, 0, digest)
	}
	n.acknowledge(m, "")
}

// post adds a post, which everybody gets who follows the channel, but who wrote it.
func (n *Network) post(channel *Channel, id, kind string, said []byte, by *Account) *post {
	number := 101
	if len(channel.posts) > 0 {
		number = channel.posts[len(channel.posts)-1].number + 1
	}
	made := &post{number: number, id: id, kind: kind, said: said, made: time.Now(), others: map[string]int{}, given: map[string]string{}}
	channel.posts = append(channel.posts, made)
	channel.byID[id] = made
	n.bringPost(channel, made, "", by)
	return made
}

// changePost edits a post, or takes it back; the number of the refusal.
func (n *Network) changePost(channel *Channel, account *Account, m *sent, edit string, said []byte) int {
	changed := channel.byID[m.id]
	if changed == nil {
		return 404
	}
	if time.Since(changed.made) > changeable {
		return 406
	}
	code := uint32(5)
	if edit == editedByAdmin {
		changed.said, changed.edited = said, time.Now()
	} else {
		code = 6
		delete(channel.byID, m.id)
		channel.posts = slices.DeleteFunc(channel.posts, func(p *post) bool { return p == changed })
	}
	n.bringPost(channel, changed, edit, account)
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_MESSAGE_CHANGED, Account: account.Digits, Code: code, ID: m.id, Peer: m.id,
	})
	return 0
}

// react counts a reaction; the number of the refusal.
func (n *Network) react(channel *Channel, account *Account, m *sent) int {
	number, _ := strconv.Atoi(text(m.node.Attrs["server_id"]))
	at := slices.IndexFunc(channel.posts, func(p *post) bool { return p.number == number })
	if _, follows := channel.Followers[account.Digits]; !follows {
		return 403
	}
	if at < 0 {
		return 404
	}
	if channel.Reactions == "NONE" {
		return 406
	}
	delete(channel.posts[at].given, account.Digits)
	reaction := m.node.GetChildByTag("reaction")
	if code := text(reaction.Attrs["code"]); code != "" {
		channel.posts[at].given[account.Digits] = code
	}
	n.tellPost(channel, channel.posts[at])
	return 0
}

// bringPost brings a post, or that it has changed, to the accounts that follow the channel.
func (n *Network) bringPost(channel *Channel, p *post, edit string, by *Account) {
	for number := range channel.Followers {
		account := n.people[number]
		if account == nil || account == by {
			continue
		}
		attrs := Attrs{"from": channel.jid(), "id": p.id, "server_id": strconv.Itoa(p.number), "t": strconv.FormatInt(p.made.Unix(), 10), "type": p.kind}
		said := []Node{{Tag: "plaintext", Content: p.said}}
		if edit != "" {
			attrs["edit"] = edit
			said = append(said, Node{Tag: "meta", Attrs: Attrs{
				"msg_edit_t": strconv.FormatInt(time.Now().UnixMilli(), 10), "original_msg_t": strconv.FormatInt(p.made.Unix(), 10),
			}})
		}
		if edit != "" && edit != editedByAdmin {
			said[0].Content = nil
		}
		n.keepFor(account, &pending{
			key: "message|" + p.id, messageID: p.id, node: &Node{Tag: "message", Attrs: attrs, Content: said},
		}, channel.Address())
	}
}

// tellPost tells who has asked for it that a post was seen or reacted to.
func (n *Network) tellPost(channel *Channel, p *post) {
	for number, until := range channel.watching {
		account := n.people[number]
		if account == nil || !account.Connected() || time.Now().After(until) {
			delete(channel.watching, number)
			continue
		}
		account.device.client.send(&Node{
			Tag: "notification", Attrs: Attrs{"from": channel.jid(), "type": "newsletter", "id": rand.Text()[:16], "t": now()},
			Content: []Node{{Tag: "live_updates", Content: []Node{p.node(false)}}},
		})
	}
}

func (p *post) node(whole bool) Node {
	counts := map[string]int{}
	for code, count := range p.others {
		counts[code] += count
	}
	for _, code := range p.given {
		counts[code]++
	}
	var reactions []Node
	for code, count := range counts {
		reactions = append(reactions, Node{Tag: "reaction", Attrs: Attrs{"code": code, "count": strconv.Itoa(count)}})
	}
	parts := []Node{{Tag: "views_count", Attrs: Attrs{"count": strconv.Itoa(p.views)}}, {Tag: "reactions", Content: reactions}}
	if whole {
		parts = append(parts, Node{Tag: "plaintext", Content: p.said})
	}
	return Node{Tag: "message", Attrs: Attrs{
		"id": p.id, "server_id": strconv.Itoa(p.number), "t": strconv.FormatInt(p.made.Unix(), 10), "type": p.kind,
	}, Content: parts}
}

// newsletterQuery gives posts, or has an account be told of changes.
func (c *client) newsletterQuery(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	jid, named := child.Attrs["jid"].(types.JID)
	if !named {
		jid, _ = node.Attrs["to"].(types.JID)
	}
	channel := n.channelAt(jid)
	if channel == nil {
		c.fail(node, "404", "item-not-found")
		return
	}
	if child.Tag == "live_updates" {
		channel.watching[c.account.Digits] = time.Now().Add(watchedFor)
		c.result(node, Node{Tag: "live_updates", Attrs: Attrs{"duration": strconv.Itoa(int(watchedFor.Seconds()))}})
		return
	}
	before, _ := strconv.Atoi(text(child.Attrs["before"]))
	count, _ := strconv.Atoi(text(child.Attrs["count"]))
	if count <= 0 || count > mostPosts {
		count = mostPosts
	}
	var listed []Node
	for _, p := range slices.Backward(channel.posts) {
		if len(listed) == count {
			break
		}
		if before == 0 || p.number < before {
			listed = append(listed, p.node(true))
		}
	}
	slices.Reverse(listed)
	c.result(node, Node{Tag: "messages", Attrs: Attrs{"jid": channel.jid(), "t": now()}, Content: listed})
}

// Post posts in a channel as who runs it, so many times; with an id it changes that post. It returns the id of the last.
func (n *Network) Post(address string, said *simnetv1.Content, edits string, count int) (string, error) {
	around := content.Surroundings{Address: func(address string) string { return address }, File: n.media.sharePublic}
	message, err := content.Message(said, around)
	if err != nil {
		return "", err
	}
	kind, _ := content.Type(message)
	body, _ := proto.Marshal(message)
	n.mu.Lock()
	defer n.mu.Unlock()
	channel := n.channelAt(n.jidAt(address))
	if channel == nil {
		return "", ErrNoChannel
	}
	if edits != "" {
		changed := channel.byID[edits]
		if changed == nil {
			return "", ErrNoPost
		}
		changed.said, changed.edited = body, time.Now()
		n.bringPost(channel, changed, editedByAdmin, nil)
		return edits, nil
	}
	var made *post
	for range max(count, 1) {
		made = n.post(channel, "3A"+rand.Text()[:18], kind, body, nil)
	}
	return made.id, nil
}

// React has so many followers react to a post, and so many see it.
func (n *Network) React(address, id, code string, count, views int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	channel := n.channelAt(n.jidAt(address))
	if channel == nil {
		return ErrNoChannel
	}
	p := channel.byID[id]
	if p == nil {
		return ErrNoPost
	}
	p.views = views
	if code != "" {
		delete(p.others, code)
		if count > 0 {
			p.others[code] = count
		}
	}
	n.tellPost(channel, p)
	return nil
}
