package device

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// How long codes can be used, as WhatsApp's own client shows them. The network says how many there are, six, and ends the
// connection at about the time when the last one is over: not before nearlyOver.
const (
	firstCode  = 60 * time.Second
	laterCodes = 20 * time.Second
	letterCode = 160 * time.Second
	nearlyOver = 140 * time.Second
)

// pairing is what a device that nobody has accepted yet has to do.
type pairing struct {
	device  *Device
	request *internalv1.PairDevice
	once    sync.Once
	mu      sync.Mutex
	stop    context.CancelFunc
	// When the first code was shown.
	shown time.Time
	// The codes that there are, and when one was renewed: it is worth nothing as it was shown.
	codes   []string
	renewed chan struct{}
	// The network asks for a passkey: codes are over, and what goes wrong is a refusal.
	asked, done bool
}

func newPairing(d *Device, request *internalv1.PairDevice) *pairing {
	return &pairing{device: d, request: request, renewed: make(chan struct{}, 1)}
}

// Pair begins to link a new device to an account.
func Pair(number uint64, request *internalv1.PairDevice, network *Network, out Out) *Device {
	d := newDevice(number, request.GetAccountId(), network, out)
	d.pairing = newPairing(d, request)
	d.store = rows.NewPairing(d.accountID, d.pairing.complete)
	go d.contain(d.pairing.begin)
	return d
}

func (p *pairing) begin() {
	d := p.device
	created := d.store.NewDevice()
	client := whatsmeow.NewClient(created, d.log)
	client.GetClientPayload = func() *waWa6.ClientPayload { return payloadOf(created, p.request) }
	client.PrePairCallback = p.isExpected
	d.use(client)
	if err := d.connect(p.request); err != nil {
		d.end(internalv1.DeviceEnd_DEVICE_END_LOST, err.Error(), 0)
		return
	}
	select {
	case <-time.After(p.request.GetTimeout().AsDuration()):
		p.timeOut()
	case <-d.ctx.Done():
	}
}

// timeOut ends the attempt, unless somebody has accepted and it is being stored.
func (p *pairing) timeOut() {
	p.mu.Lock()
	accepted := p.done
	p.mu.Unlock()
	if !accepted {
		p.device.end(internalv1.DeviceEnd_DEVICE_END_TIMED_OUT, "nobody accepted in time", 0)
	}
}

// payloadOf is what the device says of itself: the library has it the same for all.
func payloadOf(device *store.Device, request *internalv1.PairDevice) *waWa6.ClientPayload {
	payload := device.GetClientPayload()
	if payload.GetDevicePairingData() == nil {
		return payload
	}
	properties := proto.CloneOf(store.DeviceProps)
	if request.GetDeviceName() != "" {
		properties.Os = proto.String(request.GetDeviceName())
	}
	properties.RequireFullSync = proto.Bool(request.GetWithHistory())
	if encoded, err := proto.Marshal(properties); err == nil {
		payload.DevicePairingData.DeviceProps = encoded
	}
	return payload
}

// isExpected says whether the number that accepted is the one that was asked for.
func (p *pairing) isExpected(jid types.JID, _, _ string) bool {
	return p.request.GetPhone() == "" || jid.User == digitsOf(p.request.GetPhone())
}

func digitsOf(phone string) string { return strings.TrimPrefix(phone, "+") }

func (p *pairing) handle(event any) {
	d := p.device
	switch said := event.(type) {
	case *events.QR:
		p.once.Do(func() { p.show(said.Codes) })
	case *events.RotateADVSecret:
		p.renew(said.OldSecret, said.NewSecret)
	case *events.PairPasskeyRequest:
		p.askPasskey(said.PublicKey)
	case *events.PairPasskeyConfirmation:
		code := said.Code
		if said.SkipHandoffUX {
			code = ""
		}
		d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_PasskeyComparison{
			PasskeyComparison: &internalv1.PasskeyComparison{Code: code},
		}})
	case *events.PairPasskeyError:
		p.refused("the passkey was not accepted: " + said.Error.Error())
	case *events.PairError:
		p.refused(said.Error.Error())
	case *events.PairSuccess:
		p.mu.Lock()
		p.done = true
		p.mu.Unlock()
	case *events.ManualLoginReconnect: // linked: what it is from now on logs in anew
		d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "linked", 0)
	case *events.Disconnected:
		p.lost()
	default:
		if why, detail, retryAfter, ended := endOf(event); ended {
			d.end(why, detail, retryAfter)
		}
	}
}

// lost is a connection that the network closed: when the codes are nearly over, that is its way to say so.
func (p *pairing) lost() {
	p.mu.Lock()
	over := !p.shown.IsZero() && time.Since(p.shown) >= nearlyOver && !p.done && !p.asked
	p.mu.Unlock()
	if over {
		p.device.end(internalv1.DeviceEnd_DEVICE_END_TIMED_OUT, "nobody accepted in time", 0)
		return
	}
	p.device.end(internalv1.DeviceEnd_DEVICE_END_LOST, "the network closed the connection", 0)
}

func (p *pairing) refused(detail string) {
	p.device.end(internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED, valid(detail), 0)
}

// show shows codes one after the other.
func (p *pairing) show(codes []string) {
	if len(codes) == 0 {
		p.refused("the network offers no codes")
		return
	}
	ctx, stop := context.WithCancel(p.device.ctx)
	p.mu.Lock()
	p.stop, p.shown, p.codes = stop, time.Now(), codes
	p.mu.Unlock()
	go p.device.contain(func() {
		defer p.codesOver()
		if p.request.GetPhone() != "" {
			p.showLetters(ctx)
			return
		}
		p.showPictures(ctx, len(codes))
	})
}

// showPictures shows one code after the other: the first one for longer, as people have yet to find where to scan it.
func (p *pairing) showPictures(ctx context.Context, codes int) {
	for shown := 0; shown < codes; {
		lifetime := laterCodes
		if shown == 0 {
			lifetime = firstCode
		}
		p.mu.Lock()
		code := p.codes[shown]
		p.mu.Unlock()
		p.say(&internalv1.DevicePairingCode{Qr: code, Lifetime: durationpb.New(lifetime)})
		select {
		case <-time.After(lifetime):
			shown++
		case <-p.renewed: // the same one is shown again, with what it has now
		case <-ctx.Done():
			return
		}
	}
}

// renew puts what the network has had made anew into the codes.
func (p *pairing) renew(before, now string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.codes {
		p.codes[i] = strings.Replace(p.codes[i], before, now, 1)
	}
	select {
	case p.renewed <- struct{}{}:
	default:
	}
}

func (p *pairing) showLetters(ctx context.Context) {
	client := p.device.client
	code, err := client.PairPhone(ctx, digitsOf(p.request.GetPhone()), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		if ctx.Err() == nil {
			p.refused("the network gives no code: " + err.Error())
		}
		return
	}
	p.say(&internalv1.DevicePairingCode{Letters: strings.ReplaceAll(code, "-", ""), Lifetime: durationpb.New(letterCode)})
	select {
	case <-time.After(letterCode):
	case <-ctx.Done():
	}
}

func (p *pairing) say(code *internalv1.DevicePairingCode) {
	p.device.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_PairingCode{PairingCode: code}})
}

// codesOver ends the attempt when nobody accepted a code, and the network leaves it to us.
func (p *pairing) codesOver() {
	p.mu.Lock()
	p.stop = nil
	waiting := p.asked || p.done
	p.mu.Unlock()
	if !waiting && p.device.ctx.Err() == nil {
		p.device.end(internalv1.DeviceEnd_DEVICE_END_TIMED_OUT, "nobody accepted in time", 0)
	}
}

func (p *pairing) askPasskey(options *types.WebAuthnPublicKey) {
	encoded, err := json.Marshal(options)
	if err != nil {
		p.refused("the passkey's options cannot be read")
		return
	}
	p.mu.Lock()
	p.asked = true
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	p.device.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_PasskeyRequest{
		PasskeyRequest: &internalv1.PasskeyRequest{Options: encoded},
	}})
}

// AnswerPasskey gives the network what the person's passkey answered.
func (d *Device) AnswerPasskey(answer *internalv1.PasskeyAnswer) {
	if d.pairing == nil {
		return
	}
	go d.contain(func() {
		var credential types.WebAuthnResponse
		if err := json.Unmarshal(answer.GetCredential(), &credential); err != nil {
			d.pairing.refused("the passkey's answer is no JSON of a PublicKeyCredential")
			return
		}
		d.passkey(func(ctx context.Context, client *whatsmeow.Client) error {
			return client.SendPasskeyResponse(ctx, &credential)
		})
	})
}

// ConfirmPasskey tells the network that the person saw the same on both sides.
func (d *Device) ConfirmPasskey() {
	if d.pairing != nil {
		go d.contain(func() {
			d.passkey(func(ctx context.Context, client *whatsmeow.Client) error { return client.SendPasskeyConfirmation(ctx) })
		})
	}
}

func (d *Device) passkey(step func(context.Context, *whatsmeow.Client) error) {
	d.mu.Lock()
	client := d.client
	d.mu.Unlock()
	if client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	if err := step(ctx, client); err != nil && d.ctx.Err() == nil {
		d.pairing.refused("the network did not accept the passkey: " + err.Error())
	}
}

// complete has everything that the new device is made of stored, at once. Only then does the network hear that the
// pairing is final.
func (p *pairing) complete(changes []rows.Change) bool {
	d := p.device
	p.mu.Lock()
	p.done = true
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	answer := d.Write(changes)
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Paired{Paired: &internalv1.DevicePaired{Identity: d.ownIdentity()}}})
	select {
	case stored := <-answer:
		return stored
	case <-d.ctx.Done():
		return false
	}
}

// Name sets what devices call themselves that are not told another name; once, before any is paired.
func Name(name string) {
	if name != "" {
		store.DeviceProps.Os = proto.String(name)
	}
	store.DeviceProps.PlatformType = waCompanionReg.DeviceProps_CHROME.Enum()
}
