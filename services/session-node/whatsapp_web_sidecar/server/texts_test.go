package server

import (
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// speaking says what it is given, as a node's stream does.
type speaking struct {
	internalv1.UnimplementedLinkedDeviceServiceServer
	said []*internalv1.RunResponse
}

func (s *speaking) Run(stream grpc.BidiStreamingServer[internalv1.RunRequest, internalv1.RunResponse]) error {
	r := &run{out: make(chan *internalv1.RunResponse, len(s.said)), over: make(chan struct{})}
	for _, response := range s.said {
		r.say(response)
	}
	go func() { <-stream.Context().Done(); close(r.over) }()
	return r.write(stream)
}

func TestATextThatIsNoneDoesNotEndTheStreamOfAll(t *testing.T) {
	foreign := &internalv1.IncomingMessage{
		NetworkMessageId: "3EB0\xff", Album: "\xc3", Mentions: []string{"phone:+15550001", "\xf0\x9f"},
		Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "hello"}}},
		Changes: []*internalv1.StateRowChange{{Key: "poll/\xfe", Value: []byte("\xfe")}},
	}
	service := &speaking{said: []*internalv1.RunResponse{
		{Connection: 1, Response: &internalv1.RunResponse_Incoming{Incoming: foreign}},
		{Connection: 2, Response: &internalv1.RunResponse_Log{Log: &internalv1.LogLine{Message: "a", Fields: map[string]string{"b": "\xff"}}}},
		{Connection: 3, Response: &internalv1.RunResponse_Heard{Heard: &internalv1.NetworkHeard{}}},
	}}
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	serving := grpc.NewServer()
	internalv1.RegisterLinkedDeviceServiceServer(serving, service)
	go func() { _ = serving.Serve(listener) }()
	t.Cleanup(serving.Stop)
	channel, err := grpc.NewClient("unix:"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = channel.Close() })
	stream, err := internalv1.NewLinkedDeviceServiceClient(channel).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var heard []*internalv1.RunResponse
	for range service.said {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, response)
	}
	came := heard[0].GetIncoming()
	if came.GetNetworkMessageId() != "3EB0\uFFFD" || came.GetAlbum() != "\uFFFD" || came.GetMentions()[1] != "\uFFFD" ||
		came.GetContent().GetText().GetBody() != "hello" || string(came.GetChanges()[0].GetValue()) != "\xfe" {
		t.Fatal(came)
	}
	if heard[1].GetLog().GetFields()["b"] != "\uFFFD" || heard[2].GetConnection() != 3 {
		t.Fatal(heard)
	}
}
