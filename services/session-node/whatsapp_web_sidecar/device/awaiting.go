package device

import (
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// comesAgain is how long a message that could not be decrypted may take to come again before the node is told that there is
// one. Apps send it at once where they are online; then the node would hear of it twice.
const comesAgain = 5 * time.Minute

// await tells the node of a message that could not be decrypted, if it does not come again. The network must not be told
// that the account has it before await returns true: then it is stored that there is one.
func (d *Device) await(said *events.UndecryptableMessage) bool {
	if said.DecryptFailMode == events.DecryptFailHide { // votes, reactions and the like, which apps do not show either
		return true
	}
	anew, err := d.store.Await(d.ctx, said.Info)
	if err == nil && anew {
		d.giveUpAfter(comesAgain, said.Info.ID)
	}
	return err == nil
}

// keepUnavailable is await for a message that the network has sent without what it says. What only the phone shows the node
// is told at once.
func (d *Device) keepUnavailable(info types.MessageInfo, kind events.UnavailableType) bool {
	if kind == events.UnavailableTypeViewOnce {
		return <-d.tellUnavailable(info, sessionmeshv1.UnavailableReason_UNAVAILABLE_REASON_VIEW_ONCE, nil)
	}
	return d.await(&events.UndecryptableMessage{Info: info, IsUnavailable: true})
}

// awaitOthers goes on with what former connections have awaited.
func (d *Device) awaitOthers() {
	awaited, err := d.store.Awaited(d.ctx)
	if err != nil {
		return
	}
	for id, message := range awaited {
		d.giveUpAfter(time.Until(message.Since.Add(comesAgain)), id)
	}
}

func (d *Device) giveUpAfter(wait time.Duration, id types.MessageID) {
	time.AfterFunc(max(wait, 0), func() { d.contain(func() { d.giveUp(id) }) })
}

func (d *Device) giveUp(id types.MessageID) {
	awaited, err := d.store.Awaited(d.ctx)
	if err != nil {
		return
	}
	message, still := awaited[id]
	if !still {
		return
	}
	d.store.GiveUp(id, func(changes []rows.Change) <-chan bool {
		return d.tellUnavailable(message.Info, sessionmeshv1.UnavailableReason_UNAVAILABLE_REASON_UNDECRYPTABLE, changes)
	})
}

// tellUnavailable gives the node a message that cannot be shown, with changes of rows; the answer says whether they are stored.
func (d *Device) tellUnavailable(info types.MessageInfo, why sessionmeshv1.UnavailableReason, changes []rows.Change) <-chan bool {
	info.PushName = strings.ToValidUTF8(info.PushName, "\uFFFD")
	message := d.read(&events.Message{Info: info, Message: &waE2E.Message{PlaceholderMessage: &waE2E.PlaceholderMessage{}}})
	if message == nil { // nobody can name its chat
		return d.Write(changes)
	}
	message.Content = content.Unavailable(why)
	return d.hand(message, changes)
}
