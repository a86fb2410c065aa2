package device

import (
	"bytes"
	"compress/zlib"
	"errors"
	"math/rand/v2"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// stanza is a frame with all that stanzas are made of.
func anyStanza(t *testing.T) []byte {
	t.Helper()
	device := types.NewADJID("491510000002", 0, 7)
	encoded, err := waBinary.Marshal(waBinary.Node{
		Tag: "message", Attrs: waBinary.Attrs{
			"id": "3EB0C0FFEE", "from": bert, "participant": device, "t": "1700000000", "type": "text", "notify": "Bert",
			"to": types.ServerJID, "recipient": types.NewJID("1", types.InteropServer), "other": types.NewJID("2", types.MessengerServer),
		}, Content: []waBinary.Node{
			{Tag: "enc", Attrs: waBinary.Attrs{"v": "2", "type": "msg"}, Content: bytes.Repeat([]byte{1, 2, 3}, 400)},
			{Tag: "biz", Content: []waBinary.Node{{Tag: "interactive", Attrs: waBinary.Attrs{"type": "native_flow"}}}},
			{Tag: "verified_name"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func pack(t *testing.T, frame []byte) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{packed})
	packing := zlib.NewWriter(out)
	_, err := packing.Write(frame[1:])
	if err = errors.Join(err, packing.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAStanzaIsReadPackedOrNot(t *testing.T) {
	whole := anyStanza(t)
	for name, frame := range map[string][]byte{"as it is": whole, "packed": pack(t, whole)} {
		read, err := readable(frame)
		if err != nil || !bytes.Equal(read, whole) {
			t.Fatal(name, err)
		}
	}
}

func TestWhatIsNoStanzaIsPassedOver(t *testing.T) {
	whole := anyStanza(t)
	for name, frame := range map[string][]byte{
		"nothing": {}, "no list": {0}, "no name": {0, 248, 1, 0}, "half of no digit": {0, 248, 1, 251, 128},
		"a name that is a person": {0, 248, 1, 250, 0, 3}, "a person without a name": {0, 248, 3, 7, 4, 247, 0, 0, 0},
		"cut off": whole[:len(whole)-1], "not packed": {packed, 1, 2, 3},
		"too deep":               append([]byte{0}, bytes.Repeat([]byte{248, 2, 3, 248, 1}, 3_000_000)...),
		"too deep, and whole":    append(append([]byte{0}, bytes.Repeat([]byte{248, 2, 3, 248, 1}, maxDepth)...), 248, 1, 3),
		"names within names":     append([]byte{0, 248, 1}, bytes.Repeat([]byte{250}, 15_000_000)...),
		"longer than there is":   append([]byte{0, 248, 2, 3, 249, 255, 255}, whole[1:]...),
		"much in a little":       pack(t, make([]byte, maxFrame+1)),
		"more bytes than it has": {0, 248, 2, 3, 254, 255, 255, 255, 255, 1},
	} {
		if _, err := readable(frame); err == nil {
			t.Error(name)
		}
	}
}

// Whatever is wrong with a frame: what is taken for readable, the library reads.
func TestWhatIsReadableTheLibraryReads(t *testing.T) {
	random, whole := rand.New(rand.NewPCG(1, 2)), anyStanza(t)
	for range 20_000 {
		frame := bytes.Clone(whole[:60+random.IntN(len(whole)-60)])
		for range 1 + random.IntN(4) {
			frame[random.IntN(60)] = byte(random.Uint32())
		}
		frame[0] = 0
		if read, err := readable(frame); err == nil {
			unpacked, err := waBinary.Unpack(read)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = waBinary.Unmarshal(unpacked) // without a panic
		}
	}
}

func TestAStanzaOfVeryManyPiecesIsPassedOver(t *testing.T) {
	list := func(content []byte, entries int) []byte {
		return append([]byte{249, byte(entries >> 8), byte(entries)}, content...)
	}
	empty := []byte{248, 1, 3}
	inner := append([]byte{248, 2, 3}, list(bytes.Repeat(empty, 1<<12), 1<<12)...)
	few := append([]byte{0, 248, 2, 3}, list(inner, 1)...)
	many := append([]byte{0, 248, 2, 3}, list(bytes.Repeat(inner, 1<<9), 1<<9)...)
	if _, err := readable(few); err != nil {
		t.Fatal(err)
	}
	if _, err := readable(many); !errors.Is(err, errNoStanza) {
		t.Fatal(err)
	}
}
