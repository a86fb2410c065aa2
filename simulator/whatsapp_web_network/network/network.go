// Package network is a network that speaks WhatsApp Web's protocol with real clients, and is everybody whom they meet there.
package network

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
	"sessionmesh.dev/whatsapp-web-network/noise"
	"sessionmesh.dev/whatsapp-web-network/phone"
)

// Network is the whole of it. One lock guards everything but the phones, which have their own.
type Network struct {
	Ledger  *ledger.Ledger
	Address string

	identity    *noise.Identity
	http        *http.Server
	media       *mediaStore
	general     atomic.Pointer[effects]
	connections atomic.Int64
	lastNumber  atomic.Uint32

	mu       sync.Mutex
	accounts []*Account // the listed ones, in the order they were made
	people   map[string]*Account
	groups   map[string]*Group
	ended    map[string]bool // codes of groups' links that lead nowhere any more
	channels map[string]*Channel
	attempts map[*client]*attempt
	byRef    map[string]*attempt
	faults   []*Fault
	unread   map[string]bool // what somebody could not decrypt, and has not since; see unreadKey
	common   *Behaviour
	settings Settings
}

// Settings are what can be said of the network as a whole; numbers are digits.
type Settings struct {
	Unregistered    map[string]bool
	Usernames       map[string]string
	Hidden          map[string]bool
	Passkeys        map[string]bool
	Unaddable       map[string]bool // whom nobody can add to groups, only invite
	HistoryMessages int
}

// Start serves clients at a host:port of loopback; certificates are signed with root.
func Start(address string, root *keys.KeyPair) (*Network, error) {
	identity, err := noise.NewIdentity(root)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	n := &Network{
		Ledger: ledger.New(), Address: listener.Addr().String(), identity: identity, media: newMediaStore(),
		people: map[string]*Account{}, groups: map[string]*Group{}, ended: map[string]bool{},
		attempts: map[*client]*attempt{},
		byRef:    map[string]*attempt{}, unread: map[string]bool{}, common: DefaultBehaviour(),
	}
	n.general.Store(noEffects)
	routes := http.NewServeMux()
	routes.HandleFunc("/ws/chat", n.serveClient)
	routes.HandleFunc("/mms/", n.media.serve)
	routes.HandleFunc("/v/", n.servePicture)
	routes.HandleFunc("/newsletter/", n.media.serve)
	n.http = &http.Server{Handler: routes, ReadHeaderTimeout: 10 * time.Second, ConnContext: withLine}
	go func() { _ = n.http.Serve(arrivingListener{listener}) }()
	return n, nil
}

// RootKey is what clients must trust; 32 bytes.
func (n *Network) RootKey() []byte { return n.identity.RootKey() }

// Connections is how many there are, logged in or not.
func (n *Network) Connections() int64 { return n.connections.Load() }

// Close ends all connections.
func (n *Network) Close() {
	_ = n.http.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, account := range n.accounts {
		if account.Connected() {
			account.device.client.conn.Close()
		}
	}
	for c := range n.attempts {
		c.conn.Close()
	}
}

func (n *Network) serveClient(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = socket.CloseNow() }()
	n.connections.Add(1)
	defer n.connections.Add(-1)
	conn, err := noise.Accept(r.Context(), socket, n.identity, n.general.Load().forged)
	if err != nil {
		return
	}
	c := newClient(n, conn, n.lastNumber.Add(1))
	c.line, _ = r.Context().Value(lineKey{}).(*arriving)
	defer c.closed()
	if conn.Payload.GetDevicePairingData() != nil {
		n.beginPairing(c)
		go c.writeLoop()
		c.readLoop()
		return
	}
	accepted := n.login(c)
	go c.writeLoop()
	if accepted {
		c.readLoop()
	} else {
		<-r.Context().Done()
	}
}

// Change calls a function under the network's lock.
func (n *Network) Change(change func(settings *Settings)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.settings)
}

// Accounts calls a function with all listed accounts, under the network's lock.
func (n *Network) Accounts(look func(accounts []*Account)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	look(n.accounts)
}

// Account is the listed account of a number, or nil.
func (n *Network) Account(phoneNumber string) *Account {
	n.mu.Lock()
	defer n.mu.Unlock()
	account := n.people[digits(phoneNumber)]
	if account == nil || !account.Listed {
		return nil
	}
	return account
}

// Create makes an account of a number; nil: it has one.
func (n *Network) Create(phoneNumber, pushName string) *Account {
	n.mu.Lock()
	defer n.mu.Unlock()
	if account := n.people[digits(phoneNumber)]; account != nil && account.Listed {
		return nil
	}
	return n.list(digits(phoneNumber), pushName)
}

// SetBehaviour sets how people behave towards an account, with nil towards all that have no behaviour of their own.
func (n *Network) SetBehaviour(account *Account, behaviour *Behaviour) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if account != nil {
		account.own = behaviour
	} else {
		n.common = behaviour
	}
}

// list makes the person with a number an account of the network.
func (n *Network) list(number, pushName string) *Account {
	account := n.person(number)
	if account.Listed {
		return account
	}
	account.Listed = true
	if pushName != "" {
		account.PushName = pushName
	}
	n.accounts = append(n.accounts, account)
	account.effects.Store(n.effectsOn(account))
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_ACCOUNT, Account: number, ID: number, Peer: account.Phone,
	})
	return account
}

// person is whoever has a number; it is made when somebody first asks.
func (n *Network) person(number string) *Account {
	account := n.people[number]
	if account == nil {
		account = &Account{
			Phone: "+" + number, Digits: number, HiddenID: hiddenIDOf(number),
			PushName: "Person " + number[max(0, len(number)-4):],
		}
		n.people[number] = account
	}
	return account
}

// phoneOf is an account's phone, with which it begins to have keys.
func (n *Network) phoneOf(account *Account) *phone.Phone {
	if account.phone == nil {
		account.phone = phone.New(n.keysOf(account))
	}
	return account.phone
}

func (n *Network) keysOf(account *Account) *keys.KeyPair {
	if account.keys == nil {
		account.keys = keys.NewKeyPair()
	}
	return account.keys
}

// numberOf is the number that an address of a person stands for; false: nobody on the network has it.
func (n *Network) numberOf(jid types.JID) (string, bool) {
	number := jid.User
	if jid.Server == types.HiddenUserServer {
		number = digitsOf(jid.User)
	} else if jid.Server != types.DefaultUserServer && jid.Server != types.LegacyUserServer {
		return "", false
	}
	return number, isPhone(number) && !n.settings.Unregistered[number]
}

// find is who has an address.
func (n *Network) find(jid types.JID) *Account {
	number, ok := n.numberOf(jid)
	if !ok {
		return nil
	}
	return n.person(number)
}

func digits(phoneNumber string) string {
	if len(phoneNumber) > 0 && phoneNumber[0] == '+' {
		return phoneNumber[1:]
	}
	return phoneNumber
}
