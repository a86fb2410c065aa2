package device

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errCut is a connection that must not begin any more.
var errCut = errors.New("the connection is closed")

const (
	// Nothing is delivered for an account that has gone to another node: no endless retransmission.
	unansweredMilliseconds = 5_000
	dialTimeout            = 10 * time.Second
)

// maxAhead is how many bytes are read of an account's connection while a message of it waits to be stored.
const maxAhead = 4 << 20

// line is the connection to the network of one device, to be cut at once.
type line struct {
	mu   sync.Mutex
	conn net.Conn
	cut  bool
	// While a message waits: what was read since, and who waits for it.
	waiting bool
	ahead   int
	// Nothing may be read yet.
	held bool
	goOn *sync.Cond
}

// gated is a connection that is not read further ahead than maxAhead: the library keeps in memory all that it has read.
type gated struct {
	net.Conn
	line *line
}

func (g gated) Read(into []byte) (int, error) {
	n, err := g.Conn.Read(into)
	g.line.mu.Lock()
	defer g.line.mu.Unlock()
	g.line.ahead += n
	for (g.line.held || g.line.waiting && g.line.ahead > maxAhead) && !g.line.cut {
		g.line.goOn.Wait()
	}
	return n, err
}

// wait says that a message waits to be stored, or does so no more.
func (l *line) wait(waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting, l.ahead = waiting, 0
	l.goOn.Broadcast()
}

// hold says that nothing may be read for now, or that it may again.
func (l *line) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.goOn.Broadcast()
}

func (l *line) dial(ctx context.Context, network, host string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	if tcp, is := conn.(*net.TCPConn); is {
		// What the kernel has not delivered when the process dies, or cuts, is never delivered.
		_ = tcp.SetLinger(0)
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unansweredMilliseconds)
			})
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = conn.Close()
		return nil, errCut
	}
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn = conn
	return gated{conn, l}, nil
}

// shut cuts the connection: when it returns, nothing leaves over it any more, nor over another one.
func (l *line) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.goOn.Broadcast()
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// proxied is what says through which proxy a device is to connect.
type proxied interface {
	GetProxy() string
	GetProxyAddress() string
}

type dialing func(ctx context.Context, network, address string) (net.Conn, error)

// at connects to one address, whatever is asked for.
func at(address string, dial dialing) dialing {
	return func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) }
}

// Network is where devices connect to.
type Network struct {
	// Host and port of a test network; empty: WhatsApp.
	test  string
	files *http.Client
}

// NewNetwork is WhatsApp, or a test network.
func NewNetwork(test string) *Network {
	n := &Network{test: test}
	// Not by a proxy of the environment: the connection takes none, and both come from one address.
	n.files = &http.Client{Transport: inMemory{n.towards(forFiles(8))}}
	return n
}

func forFiles(idle int) *http.Transport {
	return &http.Transport{
		TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: idle, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}
}

// clients are the ways of one device to the network: its own one for its connection, and everybody's for files, unless
// it goes through a proxy: at that address, whatever the name in its URL means.
func (n *Network) clients(l *line, proxy, address string) (connection, files *http.Client, err error) {
	own := &http.Transport{DialContext: l.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}
	connection, files = &http.Client{Transport: unbroken{n.towards(own)}}, n.files
	if proxy == "" {
		return connection, files, nil
	}
	through, err := url.Parse(proxy)
	if err != nil || through.Host == "" {
		return nil, nil, errors.New("the proxy is no URL")
	}
	filesThrough := forFiles(2)
	own.Proxy, filesThrough.Proxy = http.ProxyURL(through), http.ProxyURL(through)
	if address != "" {
		own.DialContext, filesThrough.DialContext = at(address, l.dial), at(address, (&net.Dialer{Timeout: dialTimeout}).DialContext)
	}
	return connection, &http.Client{Transport: inMemory{n.towards(filesThrough)}}, nil
}

func (n *Network) towards(transport *http.Transport) http.RoundTripper {
	if n.test == "" {
		return transport
	}
	return redirected{n.test, transport}
}

// redirected sends everything to the test network, whatever host was asked for.
type redirected struct {
	host string
	next http.RoundTripper
}

func (r redirected) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = "http", r.host, r.host
	return r.next.RoundTrip(request)
}
