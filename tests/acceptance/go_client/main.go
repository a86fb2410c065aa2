// Calls the mesh on behalf of one account until its standard input ends:
//
//	go_client 127.0.0.1:7600 KEY ACCOUNT
//	GRPC_XDS_BOOTSTRAP=bootstrap.json go_client xds:///sessionmesh KEY ACCOUNT
//
// Prints what it gets, one line each: "sent ID", "refused CODE REASON", "session STATE", and then for each message that
// it sends and looks up again "done PEER", the address that answered the second call, or "failed ERROR".
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/rls" // registers itself, for xds:///
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // registers itself, for xds:///

	meshpb "sessionmesh.dev/gen/sessionmesh/v1"
)

const (
	callTimeout = 20 * time.Second
	pause       = 20 * time.Millisecond
)

type client struct {
	messages meshpb.MessageServiceClient
	sessions meshpb.SessionServiceClient
	key      string
	account  string
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: go_client TARGET KEY ACCOUNT")
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	calls := client{
		messages: meshpb.NewMessageServiceClient(connection),
		sessions: meshpb.NewSessionServiceClient(connection),
		key:      os.Args[2],
		account:  os.Args[3],
	}
	if err := calls.run(); err != nil {
		log.Fatal(err)
	}
}

func (c *client) run() error {
	id, err := c.send()
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	fmt.Println("sent", id)
	fmt.Println("refused", c.refusal())
	state, err := c.firstState()
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	fmt.Println("session", state)
	for ended := inputEnd(); ; {
		if answeredBy, err := c.sendAndLookUp(); err != nil {
			fmt.Println("failed", err)
		} else {
			fmt.Println("done", answeredBy)
		}
		select {
		case <-ended:
			return nil
		case <-time.After(pause):
		}
	}
}

func (c *client) send() (string, error) {
	ctx, cancel := c.context()
	defer cancel()
	sent, err := c.messages.SendMessage(ctx, &meshpb.SendMessageRequest{
		AccountId: c.account,
		RequestId: fmt.Sprintf("go-%016x", rand.Uint64()),
		Recipient: &meshpb.Recipient{Kind: &meshpb.Recipient_Phone{Phone: "+4915112345678"}},
		Content: &meshpb.Content{Kind: &meshpb.Content_Text{
			Text: &meshpb.TextContent{Body: "Hello from Go"},
		}},
	})
	return sent.GetMessage().GetId(), err
}

// refusal asks for a message that cannot exist, for its code and the reason in its details.
func (c *client) refusal() string {
	ctx, cancel := c.context()
	defer cancel()
	_, err := c.messages.GetMessage(ctx, &meshpb.GetMessageRequest{
		AccountId: c.account, MessageId: "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV",
	})
	refused := status.Convert(err)
	for _, detail := range refused.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return fmt.Sprint(int(refused.Code()), " ", info.GetReason())
		}
	}
	return fmt.Sprint(int(refused.Code()), " without details")
}

func (c *client) firstState() (string, error) {
	ctx, cancel := c.context()
	defer cancel()
	states, err := c.sessions.WatchSession(ctx, &meshpb.WatchSessionRequest{AccountId: c.account})
	if err != nil {
		return "", err
	}
	first, err := states.Recv()
	return first.GetSession().GetState().String(), err
}

func (c *client) sendAndLookUp() (string, error) {
	id, err := c.send()
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	ctx, cancel := c.context()
	defer cancel()
	var answering peer.Peer
	request := &meshpb.GetMessageRequest{AccountId: c.account, MessageId: id}
	if _, err := c.messages.GetMessage(ctx, request, grpc.Peer(&answering)); err != nil {
		return "", fmt.Errorf("look it up: %w", err)
	}
	return answering.Addr.String(), nil
}

func (c *client) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key, "x-account-id", c.account), cancel
}

func inputEnd() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}
