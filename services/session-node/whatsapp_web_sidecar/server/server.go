// Package server is what a session-node speaks to: its devices and their files, over one connection.
package server

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/device"
)

const (
	// Protocol is the version of linked_device.proto that this program speaks.
	Protocol = 1
	// Version is its own.
	Version = "1"
	// What may wait for a node that reads slowly; then whoever has something to say waits.
	maxWaiting = 512
)

// run is one node's connection.
type run struct {
	network *device.Network
	out     chan *internalv1.RunResponse
	over    context.Context

	mu        sync.Mutex
	devices   map[uint64]*device.Device
	transfers map[fileID]*transfer
}

// Serve speaks with a node until either side closes the connection; with its end every device's is closed.
func Serve(connection net.Conn) error {
	read := newReader(connection)
	first, err := read()
	if err != nil {
		return fault(err)
	}
	start := first.GetStart()
	if start == nil {
		return errors.New("the first request is no StartSidecar")
	}
	if start.GetTestNetwork() != "" {
		if len(start.GetTestRoot()) != 32 {
			return errors.New("the test network's key has not 32 bytes")
		}
		whatsmeow.WACertPubKey = [32]byte(start.GetTestRoot())
	}
	device.Name(start.GetDeviceName())
	over, end := context.WithCancel(context.Background())
	r := &run{
		network: device.NewNetwork(start.GetTestNetwork()), out: make(chan *internalv1.RunResponse, maxWaiting), over: over,
		devices: map[uint64]*device.Device{}, transfers: map[fileID]*transfer{},
	}
	r.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Started{Started: Started()}})
	written := make(chan error, 1)
	go func() {
		written <- r.write(connection)
		_ = connection.Close()
	}()
	for err == nil {
		var request *internalv1.RunRequest
		if request, err = read(); err == nil {
			r.handle(request)
		}
	}
	end()
	r.closeAll()
	_ = connection.Close()
	return errors.Join(fault(err), fault(<-written))
}

// fault is what ended the connection but that the node left.
func fault(err error) error {
	var left *net.OpError
	if errors.Is(err, io.EOF) || errors.As(err, &left) {
		return nil
	}
	return err
}

func (r *run) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		d.Close()
	}
}

// Started says what this program is.
func Started() *internalv1.SidecarStarted {
	library := ""
	if build, read := debug.ReadBuildInfo(); read {
		for _, module := range build.Deps {
			if module.Path == "go.mau.fi/whatsmeow" {
				library = module.Version
			}
		}
	}
	return &internalv1.SidecarStarted{
		Protocol: Protocol, Version: Version, LibraryVersion: library, ClientVersion: store.GetWAVersion().String(),
	}
}

// say hands a response over; it waits while the node reads slowly.
func (r *run) say(response *internalv1.RunResponse) bool {
	select {
	case r.out <- response:
		return true
	case <-r.over.Done():
		return false
	}
}

// handle hands a request to its device. None of them makes it wait.
func (r *run) handle(request *internalv1.RunRequest) {
	number := request.GetConnection()
	switch asked := request.GetRequest().(type) {
	case *internalv1.RunRequest_Open:
		r.add(number, func() *device.Device { return device.Open(number, asked.Open, r.network, r.say) })
		return
	case *internalv1.RunRequest_Pair:
		r.add(number, func() *device.Device { return device.Pair(number, asked.Pair, r.network, r.say) })
		return
	case *internalv1.RunRequest_Ping:
		if number == 0 {
			go r.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Heard{Heard: &internalv1.NetworkHeard{}}})
			return
		}
	}
	r.mu.Lock()
	d := r.devices[number]
	r.mu.Unlock()
	if d == nil {
		return
	}
	switch asked := request.GetRequest().(type) {
	case *internalv1.RunRequest_RowsRead:
		d.RowsRead(asked.RowsRead)
	case *internalv1.RunRequest_MessageRead:
		d.MessageRead(asked.MessageRead)
	case *internalv1.RunRequest_RowsSettled:
		d.RowsSettled(asked.RowsSettled)
	case *internalv1.RunRequest_Send:
		d.Send(asked.Send)
	case *internalv1.RunRequest_Ping:
		d.Ping()
	case *internalv1.RunRequest_LogOut:
		d.LogOut()
	case *internalv1.RunRequest_Call:
		d.Call(asked.Call)
	case *internalv1.RunRequest_ReceiptsStored:
		d.ReceiptsStored(asked.ReceiptsStored.GetSequence())
	case *internalv1.RunRequest_NoticeStored:
		d.NoticeStored(asked.NoticeStored.GetSequence())
	case *internalv1.RunRequest_PasskeyAnswer:
		d.AnswerPasskey(asked.PasskeyAnswer)
	case *internalv1.RunRequest_PasskeyConfirmation:
		d.ConfirmPasskey()
	case *internalv1.RunRequest_Close:
		r.mu.Lock()
		delete(r.devices, number)
		r.mu.Unlock()
		d.Close()
		r.giveUpAll(number)
	default:
		r.handleFile(number, d, request)
	}
}

// fail ends a connection of which the node cannot be told what it has to be.
func (r *run) fail(number uint64, why error) {
	r.mu.Lock()
	d := r.devices[number]
	r.mu.Unlock()
	if d != nil {
		go d.Fail(why.Error())
	}
}

// add begins a connection, unless its number is taken.
func (r *run) add(number uint64, begin func() *device.Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number != 0 && r.devices[number] == nil {
		r.devices[number] = begin()
	}
}
