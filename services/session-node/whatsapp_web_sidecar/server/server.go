// Package server is what a session-node speaks to: its devices over one stream, and their files.
package server

import (
	"errors"
	"io"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// Server serves one node.
type Server struct {
	internalv1.UnimplementedLinkedDeviceServiceServer

	mu      sync.Mutex
	running *run
}

// run is the node's stream.
type run struct {
	network *device.Network
	out     chan *internalv1.RunResponse
	over    chan struct{}

	mu      sync.Mutex
	devices map[uint64]*device.Device
}

// Run serves the node's stream; with its end every connection is closed.
func (s *Server) Run(stream grpc.BidiStreamingServer[internalv1.RunRequest, internalv1.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return status.Error(codes.FailedPrecondition, "the first request is a StartSidecar")
	}
	r := &run{
		out: make(chan *internalv1.RunResponse, maxWaiting), over: make(chan struct{}), devices: map[uint64]*device.Device{},
		network: device.NewNetwork(start.GetTestNetwork()),
	}
	if err := s.begin(r, start); err != nil {
		return err
	}
	defer s.end(r)
	r.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Started{Started: Started()}})
	written := make(chan error, 1)
	go func() { written <- r.write(stream) }()
	read := make(chan error, 1)
	go func() { read <- r.read(stream) }()
	select {
	case err = <-read:
	case err = <-written:
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Server) begin(r *run, start *internalv1.StartSidecar) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return status.Error(codes.FailedPrecondition, "there is a stream already")
	}
	if start.GetTestNetwork() != "" {
		if len(start.GetTestRoot()) != 32 {
			return status.Error(codes.InvalidArgument, "the test network's key has 32 bytes")
		}
		whatsmeow.WACertPubKey = [32]byte(start.GetTestRoot())
	}
	device.Name(start.GetDeviceName())
	s.running = r
	return nil
}

func (s *Server) end(r *run) {
	close(r.over)
	r.mu.Lock()
	for _, d := range r.devices {
		d.Close()
	}
	r.devices = map[uint64]*device.Device{}
	r.mu.Unlock()
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
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
	case <-r.over:
		return false
	}
}

func (r *run) write(stream grpc.BidiStreamingServer[internalv1.RunRequest, internalv1.RunResponse]) error {
	for {
		select {
		case response := <-r.out:
			if err := send(stream, response); err != nil {
				return err
			}
		case <-r.over:
			return nil
		}
	}
}

// read hands the node's requests to its devices. None of them makes it wait.
func (r *run) read(stream grpc.BidiStreamingServer[internalv1.RunRequest, internalv1.RunResponse]) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		r.handle(request)
	}
}

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
	case *internalv1.RunRequest_PasskeyAnswer:
		d.AnswerPasskey(asked.PasskeyAnswer)
	case *internalv1.RunRequest_PasskeyConfirmation:
		d.ConfirmPasskey()
	case *internalv1.RunRequest_Close:
		r.mu.Lock()
		delete(r.devices, number)
		r.mu.Unlock()
		d.Close()
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

// find is a connection of the node's stream.
func (s *Server) find(number uint64) *device.Device {
	s.mu.Lock()
	r := s.running
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devices[number]
}
