package device

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// attempt is a pairing, and how it has ended: unspecified where it has not.
func attempt(t *testing.T) (p *pairing, ended func() internalv1.DeviceEnd) {
	t.Helper()
	var end internalv1.DeviceEnd
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		end = said.GetEnded().GetEnd()
		return true
	})
	t.Cleanup(d.cancel)
	d.pairing = newPairing(d, &internalv1.PairDevice{})
	d.store = rows.NewPairing("acc_1", d.pairing.complete)
	return d.pairing, func() internalv1.DeviceEnd { return end }
}

func TestAnAttemptThatNobodyAcceptedEndsWithItsTime(t *testing.T) {
	p, ended := attempt(t)
	p.timeOut()
	if p.device.ctx.Err() == nil || ended() != internalv1.DeviceEnd_DEVICE_END_TIMED_OUT {
		t.Fatal(ended())
	}
}

func TestAnAttemptThatSomebodyAcceptedOutlivesItsTime(t *testing.T) {
	p, ended := attempt(t)
	p.done = true
	p.timeOut()
	if p.device.ctx.Err() != nil || ended() != 0 {
		t.Fatal("it is not stored, and the network holds it for linked: ", ended())
	}
}

func TestWhatAConnectionMeansThatTheNetworkClosesDependsOnItsCodes(t *testing.T) {
	for name, closed := range map[string]struct {
		shown   time.Time
		done    bool
		meaning internalv1.DeviceEnd
	}{
		"before there are any":           {time.Time{}, false, internalv1.DeviceEnd_DEVICE_END_LOST},
		"while they can be used":         {time.Now(), false, internalv1.DeviceEnd_DEVICE_END_LOST},
		"when they are nearly over":      {time.Now().Add(-nearlyOver), false, internalv1.DeviceEnd_DEVICE_END_TIMED_OUT},
		"when somebody has accepted one": {time.Now().Add(-nearlyOver), true, internalv1.DeviceEnd_DEVICE_END_LOST},
	} {
		p, ended := attempt(t)
		p.shown, p.done = closed.shown, closed.done
		p.handle(&events.Disconnected{})
		if ended() != closed.meaning {
			t.Error(name, ended())
		}
	}
}

// shown is what a pairing shows, and for how long.
func shown(t *testing.T) (p *pairing, codes func() []string) {
	t.Helper()
	var mu sync.Mutex
	var said []string
	d := newDevice(1, "acc_1", nil, func(response *internalv1.RunResponse) bool {
		mu.Lock()
		defer mu.Unlock()
		if code := response.GetPairingCode(); code != nil {
			said = append(said, fmt.Sprint(code.GetQr(), " ", code.GetLifetime().AsDuration()))
		}
		return true
	})
	t.Cleanup(d.cancel)
	d.pairing = newPairing(d, &internalv1.PairDevice{})
	d.store = rows.NewPairing("acc_1", d.pairing.complete)
	return d.pairing, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
}

func TestTheFirstCodeIsShownForAMinuteAndOthersForTwentySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, codes := shown(t)
		p.handle(&events.QR{Codes: []string{"1", "2", "3", "4", "5", "6"}})
		began := time.Now()
		<-p.device.ctx.Done()
		if said := codes(); !slices.Equal(said, []string{"1 1m0s", "2 20s", "3 20s", "4 20s", "5 20s", "6 20s"}) {
			t.Fatal(said)
		}
		if took := time.Since(began); took != 160*time.Second {
			t.Fatal("they were over after ", took)
		}
	})
}

func TestCodesThatTheNetworkRenewsAreShownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, codes := shown(t)
		p.handle(&events.QR{Codes: []string{"1,old", "2,old"}})
		time.Sleep(70 * time.Second)
		p.handle(&events.RotateADVSecret{OldSecret: "old", NewSecret: "new"})
		time.Sleep(10 * time.Second)
		if said := codes(); !slices.Equal(said, []string{"1,old 1m0s", "2,old 20s", "2,new 20s"}) {
			t.Fatal(said)
		}
		p.device.cancel()
	})
}

func TestANetworkWithoutCodesIsNotAskedForOthers(t *testing.T) {
	p, ended := attempt(t)
	p.handle(&events.QR{})
	if ended() != internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED {
		t.Fatal(ended())
	}
}

func TestTheDeviceIsCalledWhatItsNodeSays(t *testing.T) {
	Name("Shop")
	created := rows.NewPairing("acc_1", nil).NewDevice()
	properties := &waCompanionReg.DeviceProps{}
	payload := payloadOf(created, &internalv1.PairDevice{})
	if err := proto.Unmarshal(payload.GetDevicePairingData().GetDeviceProps(), properties); err != nil || properties.GetOs() != "Shop" {
		t.Fatal(properties, err)
	}
}
