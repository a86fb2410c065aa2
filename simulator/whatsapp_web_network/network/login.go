package network

import (
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
)

// The numbers with which the network refuses logins.
const (
	failureLoggedOut   = 401
	failureExpired     = 405
	failureBanned      = 406
	failureUnavailable = 503
)

func now() string { return strconv.FormatInt(time.Now().Unix(), 10) }

// login makes the connection its device's, or refuses it.
func (n *Network) login(c *client) bool {
	n.untilHandled(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	account := n.loggingIn(c)
	reason, refusal := n.refusal(c, account)
	if reason != 0 {
		record := ledger.Record{
			Kind: simulatorv1.LedgerKind_LEDGER_KIND_LOGIN_REFUSED, Connection: c.number, Code: uint32(refusal),
		}
		if account != nil {
			record.Account = account.Digits
		}
		n.Ledger.Append(record)
		c.end(failure(reason))
		return false
	}
	device := account.device
	if old := device.client; old != nil {
		n.Ledger.Append(ledger.Record{
			Kind: simulatorv1.LedgerKind_LEDGER_KIND_REPLACED, Connection: old.number, Account: account.Digits,
		})
		old.enqueue(outgoing{closing: linger, node: &Node{Tag: "stream:error", Content: []Node{
			{Tag: "conflict", Attrs: Attrs{"type": "replaced"}},
		}}})
	}
	c.account, c.device, device.client = account, device, c
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_LOGIN, Connection: c.number, Account: account.Digits,
		Counter: uint64(account.Counter + 1), Code: 1,
	})
	c.send(&Node{Tag: "success", Attrs: Attrs{
		"t": now(), "lid": device.lid, "props": "27", "location": "sim", "display_name": account.PushName,
	}})
	n.offerAll(c)
	return true
}

// loggingIn is whose device a client says that it is.
func (n *Network) loggingIn(c *client) *Account {
	return n.people[strconv.FormatUint(c.conn.Payload.GetUsername(), 10)]
}

func (n *Network) refusal(c *client, account *Account) (int, simnetv1.LoginRefusal) {
	e := n.general.Load()
	if account != nil && account.effects.Load() != nil {
		e = account.effects.Load()
	}
	switch {
	case e.expired:
		return failureExpired, simnetv1.LoginRefusal_LOGIN_REFUSAL_TRY_LATER
	case e.refuseLogins:
		return failureUnavailable, simnetv1.LoginRefusal_LOGIN_REFUSAL_TRY_LATER
	case account == nil:
		return failureLoggedOut, simnetv1.LoginRefusal_LOGIN_REFUSAL_BAD_CREDENTIALS
	case account.Banned:
		return failureBanned, simnetv1.LoginRefusal_LOGIN_REFUSAL_BANNED
	case account.device == nil || account.device.key != c.conn.ClientKey ||
		account.device.jid.Device != uint16(c.conn.Payload.GetDevice()):
		return failureLoggedOut, simnetv1.LoginRefusal_LOGIN_REFUSAL_LOGGED_OUT
	}
	return 0, simnetv1.LoginRefusal_LOGIN_REFUSAL_UNSPECIFIED
}

// offerAll sends what the device has not acknowledged, between a preview and its end.
func (n *Network) offerAll(c *client) {
	messages := c.account.Pending()
	all := len(c.device.queue)
	c.send(&Node{Tag: "ib", Attrs: Attrs{"from": types.ServerJID}, Content: []Node{{Tag: "offline_preview", Attrs: Attrs{
		"count": strconv.Itoa(all), "message": strconv.Itoa(messages), "receipt": strconv.Itoa(all - messages),
		"notification": "0", "appdata": "0",
	}}}})
	for _, item := range c.device.queue {
		n.offer(c, item)
	}
	c.send(&Node{Tag: "ib", Attrs: Attrs{"from": types.ServerJID}, Content: []Node{
		{Tag: "offline", Attrs: Attrs{"count": strconv.Itoa(all)}},
	}})
}

// offer sends what waits for a device.
func (n *Network) offer(c *client, item *pending) {
	out := outgoing{node: item.node}
	if item.messageID != "" {
		account, id := c.account.Digits, item.messageID
		out.written = func() {
			n.Ledger.Append(ledger.Record{
				Kind:       simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_OFFERED,
				Connection: c.number, Account: account, ID: id,
			})
		}
	}
	c.enqueue(out)
}

// deliver keeps something for an account's device until it acknowledges it.
func (n *Network) deliver(account *Account, item *pending) {
	if account.device == nil {
		return
	}
	account.device.queue = append(account.device.queue, item)
	if account.device.client != nil {
		n.offer(account.device.client, item)
	}
}

func (n *Network) ban(account *Account) {
	account.Banned = true
	n.Ledger.Append(ledger.Record{Kind: simulatorv1.LedgerKind_LEDGER_KIND_BANNED, Account: account.Digits})
	if account.Connected() {
		account.device.client.end(failure(failureBanned))
	}
}

func (n *Network) logOut(account *Account) {
	device := account.device
	if device == nil {
		return
	}
	account.device = nil
	n.Ledger.Append(ledger.Record{Kind: simulatorv1.LedgerKind_LEDGER_KIND_LOGGED_OUT, Account: account.Digits})
	if device.client != nil {
		device.client.end(&Node{Tag: "stream:error", Attrs: Attrs{"code": "401"}, Content: []Node{
			{Tag: "conflict", Attrs: Attrs{"type": "device_removed"}},
		}})
	}
}

func failure(reason int) *Node {
	return &Node{Tag: "failure", Attrs: Attrs{"reason": strconv.Itoa(reason), "location": "sim"}}
}
