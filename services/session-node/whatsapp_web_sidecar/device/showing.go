package device

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waVnameCert"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// maxPicture is how large a picture of somebody may be, in bytes.
const maxPicture = 2 << 20

// personAt is who has an address, as the network has them.
func (d *Device) personAt(named string) (types.JID, error) {
	person, err := address.Parse(named)
	if err != nil || !address.IsPerson(person) {
		return types.EmptyJID, errUnknownRecipient
	}
	return d.lookUp(person)
}

// ask asks the network about people; what it says of each is in the answer by the id that was asked for.
func (d *Device) ask(ctx context.Context, people []types.JID, query ...waBinary.Node) (map[types.JID]waBinary.Node, error) {
	list, err := d.client.DangerousInternals().Usync(ctx, people, "query", "interactive", query, whatsmeow.UsyncQueryExtras{IncludePrivacyToken: true})
	if err != nil {
		return nil, err
	}
	said := map[types.JID]waBinary.Node{}
	var mappings []store.LIDMapping
	for _, user := range list.GetChildren() {
		jid, is := user.Attrs["jid"].(types.JID)
		if user.Tag != "user" || !is {
			continue
		}
		said[jid.ToNonAD()] = user
		lid := user.GetChildByTag("lid")
		if hidden := lid.AttrGetter().OptionalJIDOrEmpty("val"); !hidden.IsEmpty() && jid.Server == types.DefaultUserServer {
			mappings = append(mappings, store.LIDMapping{LID: hidden, PN: jid})
		}
	}
	return said, d.store.PutManyLIDMappings(ctx, mappings)
}

// lookUpPerson says what a person shows.
func (d *Device) lookUpPerson(ctx context.Context, named string, result *internalv1.DeviceCallResult) error {
	person, err := d.personAt(named)
	if err != nil {
		return err
	}
	said, err := d.ask(ctx, []types.JID{person},
		waBinary.Node{Tag: "business", Content: []waBinary.Node{{Tag: "verified_name"}}},
		waBinary.Node{Tag: "status"}, waBinary.Node{Tag: "picture"}, waBinary.Node{Tag: "lid"}, waBinary.Node{Tag: "username"})
	if err != nil {
		return err
	}
	user, there := said[person.ToNonAD()]
	if !there || len(user.GetChildren()) == 0 {
		return errUnknownRecipient
	}
	shown := &internalv1.DevicePerson{Identity: d.namesIn(person, user), About: textIn(user, "status")}
	shown.PictureId, _ = user.GetChildByTag("picture").Attrs["id"].(string)
	if business, is := user.GetOptionalChildByTag("business"); is {
		shown.Business, shown.VerifiedName = true, verifiedName(business)
	}
	result.Person = shown
	return nil
}

// resolvePeople says by what else people are known.
func (d *Device) resolvePeople(ctx context.Context, named []string, result *internalv1.DeviceCallResult) error {
	var phones []string
	people := make([]types.JID, len(named))
	for i, name := range named {
		person, err := address.Parse(name)
		if err != nil || !address.IsPerson(person) {
			continue
		}
		people[i] = person
		if person.Server == types.DefaultUserServer {
			phones = append(phones, "+"+person.User)
		}
	}
	registered := map[string]*internalv1.DeviceIdentity{}
	if len(phones) > 0 {
		var checked internalv1.DeviceCallResult
		if err := d.checkNumbers(ctx, phones, &checked); err != nil {
			return err
		}
		for _, number := range checked.GetNumbers() {
			if number.GetRegistered() {
				registered[number.GetPhone()] = number.GetIdentity()
			}
		}
	}
	var asked []types.JID
	for i, person := range people {
		if person.Server == types.DefaultUserServer {
			found := registered["+"+person.User]
			if found == nil {
				people[i] = types.EmptyJID
				continue
			}
			people[i] = types.NewJID(found.GetUserId(), types.DefaultUserServer)
		}
		if !people[i].IsEmpty() {
			asked = append(asked, people[i])
		}
	}
	said := map[types.JID]waBinary.Node{}
	if len(asked) > 0 {
		var err error
		if said, err = d.ask(ctx, asked, waBinary.Node{Tag: "lid"}, waBinary.Node{Tag: "username"}); err != nil {
			return err
		}
	}
	for _, person := range people {
		identity := &internalv1.DeviceIdentity{}
		if user, there := said[person]; there && !person.IsEmpty() && len(user.GetChildren()) > 0 {
			identity = d.namesIn(person, user)
		}
		result.Resolved = append(result.Resolved, identity)
	}
	return nil
}

// namesIn is who a person is, as the network has said.
func (d *Device) namesIn(person types.JID, user waBinary.Node) *internalv1.DeviceIdentity {
	lid := user.GetChildByTag("lid")
	identity := d.identityOf(person, lid.AttrGetter().OptionalJIDOrEmpty("val"), "")
	identity.Username = textIn(user, "username")
	return identity
}

// getPicture gives a person's picture.
func (d *Device) getPicture(ctx context.Context, call *internalv1.GetPictureCall, result *internalv1.DeviceCallResult) error {
	person, err := d.personAt(call.GetPerson())
	if err != nil {
		return err
	}
	info, err := d.client.GetProfilePictureInfo(ctx, person, &whatsmeow.GetProfilePictureParams{Preview: call.GetPreview(), ExistingID: call.GetKnown()})
	switch {
	case errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized), errors.Is(err, whatsmeow.ErrProfilePictureNotSet):
		return nil
	case err != nil:
		return err
	case info == nil:
		result.Picture = &internalv1.DevicePicture{PictureId: call.GetKnown()}
		return nil
	}
	data := &boundedBuffer{most: maxPicture}
	if _, _, err = d.client.DangerousInternals().DownloadMediaToFile(toFile(ctx), info.URL, data); isGone(err) || data.over {
		return nil // it was changed meanwhile, or is none
	} else if err != nil {
		return err
	}
	result.Picture = &internalv1.DevicePicture{PictureId: info.ID, Data: data.Bytes()}
	return nil
}

var errOver = errors.New("it is too large")

// boundedBuffer takes so many bytes and no more.
type boundedBuffer struct {
	bytes.Buffer
	most int
	over bool
}

func (b *boundedBuffer) Write(from []byte) (int, error) {
	if b.Len()+len(from) > b.most {
		b.over = true
		return 0, errOver
	}
	return b.Buffer.Write(from)
}

// verifiedName is the name of a company, as the network has verified it.
func verifiedName(business waBinary.Node) string {
	raw, is := business.GetChildByTag("verified_name").Content.([]byte)
	if !is {
		return ""
	}
	var certificate waVnameCert.VerifiedNameCertificate
	var details waVnameCert.VerifiedNameCertificate_Details
	if proto.Unmarshal(raw, &certificate) != nil || proto.Unmarshal(certificate.GetDetails(), &details) != nil {
		return ""
	}
	return valid(details.GetVerifiedName())
}

// textIn is what a child of a node says.
func textIn(node waBinary.Node, tag string) string {
	switch content := node.GetChildByTag(tag).Content.(type) {
	case []byte:
		return valid(string(content))
	case string:
		return valid(content)
	}
	return ""
}
