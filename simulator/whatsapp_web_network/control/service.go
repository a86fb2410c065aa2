// Package control lets tests and people act on the network, inject faults, and read what it saw: SimulatorService.
package control

import (
	"context"
	"strconv"

	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"sessionmesh.dev/whatsapp-web-network/network"
)

const (
	recordsPerResponse = 500
	defaultPage        = 50
	longestPage        = 1000
	maxFile            = 4 << 20
)

// Service answers for one network.
type Service struct {
	simulatorv1.UnimplementedSimulatorServiceServer
	network *network.Network
}

// New makes the service of a network.
func New(n *network.Network) *Service { return &Service{network: n} }

// CreateNetworkAccount makes an account, as somebody does who installs the app on a phone.
func (s *Service) CreateNetworkAccount(
	_ context.Context, request *simulatorv1.CreateNetworkAccountRequest,
) (*simulatorv1.CreateNetworkAccountResponse, error) {
	if err := checkPhone("phone", request.GetPhone()); err != nil {
		return nil, err
	}
	account := s.network.Create(request.GetPhone(), request.GetPushName())
	if account == nil {
		return nil, failed(codes.AlreadyExists, "RESOURCE_EXISTS", request.GetPhone()+" has an account")
	}
	return &simulatorv1.CreateNetworkAccountResponse{Account: s.view(account)}, nil
}

// GetNetworkAccount is one account, and how its connection is.
func (s *Service) GetNetworkAccount(
	_ context.Context, request *simulatorv1.GetNetworkAccountRequest,
) (*simulatorv1.GetNetworkAccountResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	return &simulatorv1.GetNetworkAccountResponse{Account: s.view(account)}, nil
}

// ListNetworkAccounts is all accounts in the order they were made; its page tokens are positions.
func (s *Service) ListNetworkAccounts(
	_ context.Context, request *simulatorv1.ListNetworkAccountsRequest,
) (*simulatorv1.ListNetworkAccountsResponse, error) {
	size, from := int(request.GetPageSize()), 0
	if size < 0 || size > longestPage {
		return nil, invalid("page_size", "must be 0 to 1000")
	}
	if size == 0 {
		size = defaultPage
	}
	if token := request.GetPageToken(); token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 {
			return nil, invalid("page_token", "is not one of ours")
		}
	}
	response := &simulatorv1.ListNetworkAccountsResponse{}
	s.network.Accounts(func(accounts []*network.Account) {
		for i := from; i < len(accounts) && i < from+size; i++ {
			response.Accounts = append(response.Accounts, viewed(accounts[i]))
		}
		if from+size < len(accounts) {
			response.NextPageToken = strconv.Itoa(from + size)
		}
	})
	return response, nil
}

// IssueCredential cannot be done: only a client can make the keys that its credential is.
func (s *Service) IssueCredential(
	context.Context, *simulatorv1.IssueCredentialRequest,
) (*simulatorv1.IssueCredentialResponse, error) {
	return nil, unsupported("only a client makes its credential here: pair it")
}

// AcceptPairing does what the person with the phone does.
func (s *Service) AcceptPairing(
	_ context.Context, request *simulatorv1.AcceptPairingRequest,
) (*simulatorv1.AcceptPairingResponse, error) {
	if request.GetPhone() != "" {
		if err := checkPhone("phone", request.GetPhone()); err != nil {
			return nil, err
		}
	}
	var account *network.Account
	var err error
	switch shown := request.GetShown().(type) {
	case *simulatorv1.AcceptPairingRequest_Qr:
		account, err = s.network.AcceptQR(shown.Qr, request.GetPhone())
	case *simulatorv1.AcceptPairingRequest_Code:
		account, err = s.network.AcceptCode(shown.Code, request.GetPhone())
	default:
		return nil, invalid("shown", "qr or code is required")
	}
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.AcceptPairingResponse{Account: s.view(account)}, nil
}

// InjectMessage has somebody write to an account.
func (s *Service) InjectMessage(
	_ context.Context, request *simulatorv1.InjectMessageRequest,
) (*simulatorv1.InjectMessageResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	own := "phone:" + account.Phone
	writing := network.Writing{
		Account: account, Sender: request.GetSender(), Chat: request.GetChat(), PushName: request.GetPushName(),
		MessageID: request.GetNetworkMessageId(),
	}
	switch {
	case request.GetFromOwnDevice() && request.GetSender() != "":
		return nil, invalid("sender", "must be empty with from_own_device")
	case request.GetFromOwnDevice() && request.GetChat() == "":
		return nil, invalid("chat", "is required with from_own_device")
	case !request.GetFromOwnDevice() && request.GetSender() == "":
		return nil, invalid("sender", "is required")
	}
	if writing.Content, err = contentOf(request, own); err != nil {
		return nil, err
	}
	id, err := s.network.Say(writing)
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.InjectMessageResponse{NetworkMessageId: id}, nil
}

// PutNetworkBlob keeps a file that injected messages can carry.
func (s *Service) PutNetworkBlob(
	_ context.Context, request *simulatorv1.PutNetworkBlobRequest,
) (*simulatorv1.PutNetworkBlobResponse, error) {
	if len(request.GetData()) > maxFile {
		return nil, invalid("data", "must be at most 4 MiB")
	}
	ref, sum := s.network.PutFile(request.GetData())
	return &simulatorv1.PutNetworkBlobResponse{Ref: ref, Sha256: sum[:]}, nil
}

// GetNetworkStats is what there is and what happened, in numbers.
func (s *Service) GetNetworkStats(
	context.Context, *simulatorv1.GetNetworkStatsRequest,
) (*simulatorv1.GetNetworkStatsResponse, error) {
	response := &simulatorv1.GetNetworkStatsResponse{
		Connections: s.network.Connections(), Address: s.network.Address, RootKey: s.network.RootKey(),
	}
	s.network.Accounts(func(accounts []*network.Account) {
		response.Accounts = int64(len(accounts))
		for _, account := range accounts {
			if account.Connected() {
				response.Connected++
			}
		}
	})
	count := s.network.Ledger.Count
	response.Accepted = count(simulatorv1.LedgerKind_LEDGER_KIND_ACCEPTED)
	response.Resent = count(simulatorv1.LedgerKind_LEDGER_KIND_RESENT)
	response.Rejected = count(simulatorv1.LedgerKind_LEDGER_KIND_REJECTED)
	response.Acked = count(simulatorv1.LedgerKind_LEDGER_KIND_ACKED)
	response.Receipts = count(simulatorv1.LedgerKind_LEDGER_KIND_RECEIPT)
	response.Inbound = count(simulatorv1.LedgerKind_LEDGER_KIND_INBOUND)
	response.InboundAcked = count(simulatorv1.LedgerKind_LEDGER_KIND_INBOUND_ACKED)
	response.Logins = count(simulatorv1.LedgerKind_LEDGER_KIND_LOGIN)
	response.Replaced = count(simulatorv1.LedgerKind_LEDGER_KIND_REPLACED)
	response.LoginsRefused = count(simulatorv1.LedgerKind_LEDGER_KIND_LOGIN_REFUSED)
	files, bytes := s.network.Files()
	response.Blobs, response.BlobBytes = int64(files), int64(bytes)
	return response, nil
}

// ExportLedger is the whole ledger up to now.
func (s *Service) ExportLedger(
	_ *simulatorv1.ExportLedgerRequest, stream grpc.ServerStreamingServer[simulatorv1.ExportLedgerResponse],
) error {
	for from := 0; ; from += recordsPerResponse {
		records := s.network.Ledger.Read(from, recordsPerResponse)
		if len(records) == 0 {
			return nil
		}
		if err := stream.Send(&simulatorv1.ExportLedgerResponse{Records: records}); err != nil {
			return err
		}
	}
}

// GetVerdict is not for this program: mesh_simulator's checker judges what ExportLedger gives.
func (s *Service) GetVerdict(
	context.Context, *simulatorv1.GetVerdictRequest,
) (*simulatorv1.GetVerdictResponse, error) {
	return nil, unsupported("this network keeps a ledger and judges nothing: export it, and have it checked")
}

func (s *Service) account(phone string) (*network.Account, error) {
	if err := checkPhone("phone", phone); err != nil {
		return nil, err
	}
	account := s.network.Account(phone)
	if account == nil {
		return nil, notFound("network account", phone, "there is no account "+phone)
	}
	return account, nil
}

func (s *Service) view(account *network.Account) (view *simulatorv1.NetworkAccount) {
	s.network.Accounts(func([]*network.Account) { view = viewed(account) })
	return view
}

func viewed(account *network.Account) *simulatorv1.NetworkAccount {
	return &simulatorv1.NetworkAccount{
		Phone: account.Phone, UserId: account.Digits, HiddenId: account.HiddenID, PushName: account.PushName,
		Paired: account.Paired(), Connected: account.Connected(), Banned: account.Banned,
		Counter: account.Counter - 1, PendingInbound: int32(account.Pending()),
		PendingNotices: int32(account.PendingNotices()),
		DeviceName:     account.DeviceName(), WithHistory: account.WithHistory(),
		Online: account.Online(), RingingCalls: int32(account.Ringing()),
	}
}

func contentOf(request *simulatorv1.InjectMessageRequest, own string) (*simnetv1.Content, error) {
	said := &simnetv1.Content{}
	switch kind := request.GetContent().(type) {
	case *simulatorv1.InjectMessageRequest_Text:
		said.Kind = &simnetv1.Content_Text{Text: kind.Text}
	case *simulatorv1.InjectMessageRequest_Encoded:
		if proto.Unmarshal(kind.Encoded, said) != nil {
			return nil, invalid("encoded", "must be a sessionmesh.simnet.v1.Content")
		}
	default:
		return nil, invalid("content", "text or encoded is required")
	}
	quoted := request.GetQuoted()
	if quoted == nil {
		return said, nil
	}
	if quoted.GetNetworkMessageId() == "" {
		return nil, invalid("quoted.network_message_id", "is required")
	}
	if said.Context == nil {
		said.Context = &simnetv1.Context{}
	}
	said.Context.ReplyTo, said.Context.ReplyToSender = quoted.GetNetworkMessageId(), own
	if quoted.GetSender() != "" {
		said.Context.ReplyToSender = quoted.GetSender()
	}
	switch kind := quoted.GetContent().(type) {
	case *simulatorv1.QuotedMessage_Text:
		said.Context.Quoted, _ = proto.Marshal(&simnetv1.Content{Kind: &simnetv1.Content_Text{Text: kind.Text}})
	case *simulatorv1.QuotedMessage_Encoded:
		said.Context.Quoted = kind.Encoded
	}
	return said, nil
}
