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

// line is the connection to the network of one device, to be cut at once.
type line struct {
	mu   sync.Mutex
	conn net.Conn
	cut  bool
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
	return conn, nil
}

// shut cuts the connection: when it returns, nothing leaves over it any more, nor over another one.
func (l *line) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	if l.conn != nil {
		_ = l.conn.Close()
	}
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
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
	n.files = &http.Client{Transport: n.towards(transport)}
	return n
}

// clients are the ways of one device to the network: its own one for its connection, and everybody's for files, unless
// it goes through a proxy.
func (n *Network) clients(l *line, proxy string) (connection, files *http.Client, err error) {
	own := &http.Transport{DialContext: l.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}
	connection, files = &http.Client{Transport: n.towards(own)}, n.files
	if proxy == "" {
		return connection, files, nil
	}
	through, err := url.Parse(proxy)
	if err != nil || through.Host == "" {
		return nil, nil, errors.New("the proxy is no URL")
	}
	own.Proxy = http.ProxyURL(through)
	return connection, &http.Client{Transport: n.towards(&http.Transport{Proxy: http.ProxyURL(through), MaxIdleConns: 2})}, nil
}

func (n *Network) towards(transport *http.Transport) http.RoundTripper {
	if n.test == "" {
		return transport
	}
	transport.Proxy = nil
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
