package device

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

var _ whatsmeow.File = (*boundedFile)(nil)

func TestNoMoreIsKeptOfAFileThanItsMessageSays(t *testing.T) {
	scratch, err := unnamedFile()
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	part := &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileLength: proto.Uint64(100)}}
	bounded := &boundedFile{File: scratch, most: mostOf(part)}
	for range 2 { // as after a download that broke
		if n, err := io.Copy(bounded, bytes.NewReader(make([]byte, 100+sealBytes))); err != nil || n != 100+sealBytes {
			t.Fatal(n, err)
		}
		if _, err := bounded.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(bounded, bytes.NewReader(make([]byte, 1<<20))); !errors.Is(err, ErrFileBroken) {
		t.Fatal(err)
	}
	if held, err := scratch.Stat(); err != nil || held.Size() != 100+sealBytes {
		t.Fatal(held.Size(), err)
	}
	if failure := failureOf(t.Context(), ErrFileBroken); !errors.Is(failure, ErrFileBroken) || errors.Is(failure, ErrNotConnected) {
		t.Fatal("it would be tried again: ", failure)
	}
}

func TestAFileThatSaysNotHowLargeItIsIsBoundedByTheNetwork(t *testing.T) {
	for _, said := range []uint64{0, 1 << 40, 1<<64 - 1} {
		if most := mostOf(&waE2E.Message{ImageMessage: &waE2E.ImageMessage{FileLength: &said}}); most != largestFile+sealBytes {
			t.Fatal(said, most)
		}
	}
}

func TestAFileIsNotGivenUpWhileThePhoneIsAskedForManyOthers(t *testing.T) {
	d := newDevice(1, "acc_1", nil, nil)
	t.Cleanup(d.cancel)
	d.retries = map[string]chan *mediaRetry{}
	for i := range maxCalls {
		d.retries[string(rune(i))] = nil
	}
	err := d.askPhone(t.Context(), nil, &waE2E.Message{}, &types.MessageInfo{ID: "3EB0"})
	if failure := failureOf(t.Context(), err); !errors.Is(failure, ErrNotConnected) || errors.Is(failure, ErrFileGone) {
		t.Fatal(failure)
	}
}
