// Sends one message through a mesh, knowing only its address and an administrator's key:
//
//	go_client 127.0.0.1:7600 KEY
//
// Prints the message's id once it is delivered.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	meshpb "sessionmesh.dev/gen/sessionmesh/v1"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: go_client ADDRESS KEY")
	}
	id, err := run(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
}

func run(address, key string) (string, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)

	account, err := createAccount(ctx, connection)
	if err != nil {
		return "", fmt.Errorf("create an account: %w", err)
	}
	if err := pair(ctx, connection, account); err != nil {
		return "", fmt.Errorf("pair it: %w", err)
	}
	return send(ctx, connection, account)
}

func createAccount(ctx context.Context, connection *grpc.ClientConn) (*meshpb.Account, error) {
	tenant, err := meshpb.NewTenantServiceClient(connection).CreateTenant(ctx, &meshpb.CreateTenantRequest{
		RequestId: requestID(), Tenant: &meshpb.Tenant{ExternalId: requestID()},
	})
	if err != nil {
		return nil, err
	}
	created, err := meshpb.NewAccountServiceClient(connection).CreateAccount(ctx, &meshpb.CreateAccountRequest{
		RequestId: requestID(),
		TenantId:  tenant.GetTenant().GetId(),
		Account:   &meshpb.Account{Phone: fmt.Sprintf("+49176%08d", rand.IntN(100_000_000))},
	})
	return created.GetAccount(), err
}

func pair(ctx context.Context, connection *grpc.ClientConn, account *meshpb.Account) error {
	steps, err := meshpb.NewSessionServiceClient(connection).Pair(ctx, &meshpb.PairRequest{
		AccountId: account.GetId(), RequestId: requestID(),
	})
	if err != nil {
		return err
	}
	network := meshpb.NewSimulatorServiceClient(connection)
	for {
		step, err := steps.Recv()
		if err == io.EOF {
			return fmt.Errorf("not paired")
		}
		if err != nil {
			return err
		}
		if step.GetPaired() != nil {
			return nil
		}
		if qr := step.GetQr(); qr != nil {
			_, err := network.AcceptPairing(ctx, &meshpb.AcceptPairingRequest{
				Shown: &meshpb.AcceptPairingRequest_Qr{Qr: qr.GetText()}, Phone: account.GetPhone(),
			})
			if err != nil {
				return err
			}
		}
	}
}

func send(ctx context.Context, connection *grpc.ClientConn, account *meshpb.Account) (string, error) {
	messages := meshpb.NewMessageServiceClient(connection)
	sent, err := messages.SendMessage(ctx, &meshpb.SendMessageRequest{
		AccountId: account.GetId(),
		RequestId: requestID(),
		Recipient: &meshpb.Recipient{Kind: &meshpb.Recipient_Phone{Phone: "+4915112345678"}},
		Content: &meshpb.Content{Kind: &meshpb.Content_Text{
			Text: &meshpb.TextContent{Body: "Hello from Go"},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	id := sent.GetMessage().GetId()
	for {
		found, err := messages.GetMessage(ctx, &meshpb.GetMessageRequest{AccountId: account.GetId(), MessageId: id})
		if err != nil {
			return "", fmt.Errorf("look it up: %w", err)
		}
		if found.GetMessage().GetStatus() == meshpb.MessageStatus_MESSAGE_STATUS_DELIVERED {
			return id, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func requestID() string {
	return fmt.Sprintf("go-%016x", rand.Uint64())
}
