// Calls the mesh on behalf of one account until its standard input ends:
//
//	go_client 127.0.0.1:7600 KEY ACCOUNT
//	GRPC_XDS_BOOTSTRAP=bootstrap.json go_client xds:///sessionmesh KEY ACCOUNT
//
// Prints what it gets, one line each: "scan QR", "paired ADDRESS", "sent ID RECIPIENT", "delivered CURSOR",
// "received SENDER", "replied ID", "refused CODE REASON FIELD" twice, "future KIND", what it takes an event for whose kind
// it does not know, "session STATE", and then for each message that it sends and looks up again "done PEER", the address
// that answered the second call, or "failed ERROR".
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
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
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	meshpb "sessionmesh.dev/gen/sessionmesh/v1"
)

const (
	callTimeout = 30 * time.Second
	pause       = 20 * time.Millisecond
	recipient   = "phone:+4915112345678"
)

// futureEvent is an event with a kind that is not in this program's stubs.
var futureEvent = protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), nil)

type client struct {
	messages meshpb.MessageServiceClient
	sessions meshpb.SessionServiceClient
	events   meshpb.EventServiceClient
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
		events:   meshpb.NewEventServiceClient(connection),
		key:      os.Args[2],
		account:  os.Args[3],
	}
	if err := calls.run(); err != nil {
		log.Fatal(err)
	}
}

func (c *client) run() error {
	address, err := c.pair()
	if err != nil {
		return fmt.Errorf("pair: %w", err)
	}
	fmt.Println("paired", address)
	if err := c.talk(); err != nil {
		return err
	}
	fmt.Println("refused", c.refusal("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"))
	fmt.Println("refused", c.refusal("nonsense"))
	var future meshpb.Event
	if err := proto.Unmarshal(futureEvent, &future); err != nil {
		return err
	}
	fmt.Println("future", kindOf(&future))
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

// pair shows each code until somebody has scanned one; it returns the account's own address.
func (c *client) pair() (string, error) {
	ctx, cancel := c.context()
	defer cancel()
	steps, err := c.sessions.Pair(ctx, &meshpb.PairRequest{AccountId: c.account, RequestId: rand.Text()})
	if err != nil {
		return "", err
	}
	for {
		next, err := steps.Recv()
		if err != nil {
			return "", err
		}
		switch step := next.Step.(type) {
		case *meshpb.PairResponse_Qr:
			fmt.Println("scan", step.Qr.GetText())
		case *meshpb.PairResponse_Paired:
			return step.Paired.GetSession().GetSelf().GetAddress(), nil
		case *meshpb.PairResponse_TimedOut, *meshpb.PairResponse_Refused:
			return "", fmt.Errorf("not paired: %v", next)
		default: // a step to wait at, or of a newer mesh
		}
	}
}

// talk sends a message, waits until it is delivered and answered, and answers in turn.
func (c *client) talk() error {
	sent, err := c.send(recipient, nil)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	fmt.Println("sent", sent.GetId(), sent.GetRecipient().GetAddress())
	delivered, received, err := c.deliveryAndAnswer(sent.GetId())
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	fmt.Println("delivered", delivered)
	fmt.Println("received", received.GetSender().GetAddress())
	reply, err := c.send(received.GetChat(), &meshpb.MessageRef{MessageId: received.GetId()})
	if err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	fmt.Println("replied", reply.GetId())
	return nil
}

func (c *client) send(recipient string, replyTo *meshpb.MessageRef) (*meshpb.Message, error) {
	ctx, cancel := c.context()
	defer cancel()
	sent, err := c.messages.SendMessage(ctx, &meshpb.SendMessageRequest{
		AccountId: c.account,
		RequestId: rand.Text(),
		Recipient: recipient,
		Content: &meshpb.Content{Kind: &meshpb.Content_Text{
			Text: &meshpb.TextContent{Body: "Hello from Go"},
		}},
		Options: &meshpb.MessageOptions{ReplyTo: replyTo},
	})
	return sent.GetMessage(), err
}

// deliveryAndAnswer follows the account's events until a message is delivered and another one has come. It returns the
// cursor of the delivery and what came.
func (c *client) deliveryAndAnswer(id string) (string, *meshpb.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	frames, err := c.events.Subscribe(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key),
		&meshpb.SubscribeRequest{
			Start:      &meshpb.SubscribeRequest_FromOldest{FromOldest: true},
			EventTypes: []string{"message.*"},
			AccountIds: []string{c.account},
		},
	)
	if err != nil {
		return "", nil, err
	}
	var cursor string
	var received *meshpb.Message
	for cursor == "" || received == nil {
		frame, err := frames.Recv()
		if err != nil {
			return "", nil, err
		}
		for _, event := range frame.GetEvents().GetEvents() {
			switch kindOf(event) {
			case "status":
				status := event.GetMessageStatus()
				if status.GetMessageId() == id && status.GetStatus() == meshpb.MessageStatus_MESSAGE_STATUS_DELIVERED {
					cursor = event.GetCursor()
				}
			case "message":
				received = event.GetMessage().GetMessage()
			}
		}
	}
	return cursor, received, nil
}

// kindOf says what an event is to this program. Later versions of the mesh have more kinds.
func kindOf(event *meshpb.Event) string {
	switch event.Payload.(type) {
	case *meshpb.Event_MessageStatus:
		return "status"
	case *meshpb.Event_Message:
		return "message"
	default:
		return "other"
	}
}

// refusal asks for a message that there is not, for its code, the reason and the field in its details.
func (c *client) refusal(id string) string {
	ctx, cancel := c.context()
	defer cancel()
	_, err := c.messages.GetMessage(ctx, &meshpb.GetMessageRequest{
		AccountId: c.account, Message: &meshpb.MessageRef{MessageId: id},
	})
	refused := status.Convert(err)
	words := []any{int(refused.Code())}
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			words = append(words, " ", detail.GetReason())
		case *errdetails.BadRequest:
			words = append(words, " ", detail.GetFieldViolations()[0].GetField())
		}
	}
	return fmt.Sprint(words...)
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
	sent, err := c.send(recipient, nil)
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	ctx, cancel := c.context()
	defer cancel()
	var answering peer.Peer
	request := &meshpb.GetMessageRequest{
		AccountId: c.account, Message: &meshpb.MessageRef{MessageId: sent.GetId()},
	}
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
