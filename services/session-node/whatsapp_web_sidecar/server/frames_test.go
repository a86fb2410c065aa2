package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"google.golang.org/protobuf/proto"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/device"
)

func TestATextThatIsNoneDoesNotEndTheStreamOfAll(t *testing.T) {
	foreign := &internalv1.IncomingMessage{
		NetworkMessageId: "3EB0\xff", Album: "\xc3", Mentions: []string{"phone:+15550001", "\xf0\x9f"},
		Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "hello"}}},
		Changes: []*internalv1.StateRowChange{{Key: "poll/\xfe", Value: []byte("\xfe")}},
	}
	said := []*internalv1.RunResponse{
		{Connection: 1, Response: &internalv1.RunResponse_Incoming{Incoming: foreign}},
		{Connection: 2, Response: &internalv1.RunResponse_Log{Log: &internalv1.LogLine{Message: "a", Fields: map[string]string{"b": "\xff"}}}},
		{Connection: 3, Response: &internalv1.RunResponse_Heard{Heard: &internalv1.NetworkHeard{}}},
	}
	over, end := context.WithCancel(t.Context())
	r := &run{out: make(chan *internalv1.RunResponse, len(said)), over: over}
	for _, response := range said {
		r.say(response)
	}
	written := writes{make(chan []byte, len(said))}
	ended := make(chan error, 1)
	go func() { ended <- r.write(written) }()
	defer end()
	read := newResponses(t, written, ended)
	var heard []*internalv1.RunResponse
	for len(heard) < len(said) {
		heard = append(heard, read())
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

func TestWhatTheNodeDoesNotTakeEndsItsConnectionAlone(t *testing.T) {
	large := &internalv1.IncomingMessage{File: make([]byte, maxFrame)}
	said := []*internalv1.RunResponse{
		{Connection: 1, Response: &internalv1.RunResponse_Incoming{Incoming: large}},
		{Connection: 2, Response: &internalv1.RunResponse_Heard{Heard: &internalv1.NetworkHeard{}}},
	}
	over, end := context.WithCancel(t.Context())
	r := &run{out: make(chan *internalv1.RunResponse, 4), over: over}
	r.devices = map[uint64]*device.Device{1: device.Open(1, &internalv1.OpenDevice{AccountId: "acc_1"}, device.NewNetwork("127.0.0.1:1"), r.say)}
	for _, response := range said {
		r.say(response)
	}
	written := writes{make(chan []byte, 8)}
	broken := make(chan error, 1)
	go func() { broken <- r.write(written) }()
	defer end()
	reader := newResponses(t, written, broken)
	for ended, heard := false, false; !ended || !heard; {
		switch response := reader(); {
		case response.GetEnded() != nil:
			ended = response.GetConnection() == 1 && response.GetEnded().GetDetail() == errLarge.Error()
		case response.GetHeard() != nil:
			heard = response.GetConnection() == 2
		}
	}
}

// writes hands on what is written.
type writes struct{ made chan []byte }

func (w writes) Write(frames []byte) (int, error) {
	w.made <- bytes.Clone(frames)
	return len(frames), nil
}

// newResponses gives a function that returns the next response that is written, unless the stream has ended.
func newResponses(t *testing.T, written writes, ended <-chan error) func() *internalv1.RunResponse {
	var frames bytes.Buffer
	return func() *internalv1.RunResponse {
		t.Helper()
		for frames.Len() < head {
			select {
			case made := <-written.made:
				frames.Write(made)
			case err := <-ended:
				t.Fatal(err)
			}
		}
		response := &internalv1.RunResponse{}
		if err := proto.Unmarshal(frames.Next(int(binary.BigEndian.Uint32(frames.Next(head)))), response); err != nil {
			t.Fatal(err)
		}
		return response
	}
}
