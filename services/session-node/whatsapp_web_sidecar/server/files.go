package server

import (
	"context"
	"errors"
	"io"
	"time"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/device"
)

// Bytes in one piece of a file, at most 1 MiB.
const pieceBytes = 256 << 10

// fileID is a file on its way: its connection's number, and its own.
type fileID struct{ connection, file uint64 }

// transfer is what the node says of a file on its way. One piece at a time goes over the connection, so that no file
// holds up what else is said, and so that whoever is slower is waited for.
type transfer struct {
	ctx    context.Context
	giveUp context.CancelFunc
	pieces chan []byte
	wanted chan struct{}
}

// handleFile does what the node asks of a device's files.
func (r *run) handleFile(connection uint64, d *device.Device, request *internalv1.RunRequest) {
	switch asked := request.GetRequest().(type) {
	case *internalv1.RunRequest_Upload:
		id := fileID{connection, asked.Upload.GetFile()}
		r.begin(id, func(t *transfer) *internalv1.FileDone {
			start, file := time.Now(), &upload{run: r, id: id, transfer: t}
			stored, err := d.Upload(t.ctx, asked.Upload.GetKind(), asked.Upload.GetChannel(), file)
			if err != nil {
				return failed(err)
			}
			return &internalv1.FileDone{Stored: stored, Steps: []*internalv1.DeviceStep{
				device.Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_ENCRYPT_FILE, start, file.taken),
				device.Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_STORE_FILE, file.taken, time.Now()),
			}}
		})
	case *internalv1.RunRequest_Download:
		id := fileID{connection, asked.Download.GetFile()}
		r.begin(id, func(t *transfer) *internalv1.FileDone {
			start := time.Now()
			var fetched time.Time
			err := d.Download(t.ctx, asked.Download.GetReference(), func(file io.Reader) error {
				fetched = time.Now()
				return r.pass(id, t, file)
			})
			if err != nil {
				return failed(err)
			}
			return &internalv1.FileDone{Steps: []*internalv1.DeviceStep{
				device.Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_FETCH_FILE, start, fetched),
				device.Step(internalv1.DeviceStepKind_DEVICE_STEP_KIND_HAND_OVER_FILE, fetched, time.Now()),
			}}
		})
	case *internalv1.RunRequest_Piece:
		if t := r.transfer(fileID{connection, asked.Piece.GetFile()}); t != nil {
			select {
			case t.pieces <- asked.Piece.GetData():
			default: // it was not asked for
				t.giveUp()
			}
		}
	case *internalv1.RunRequest_Next:
		if t := r.transfer(fileID{connection, asked.Next.GetFile()}); t != nil {
			select {
			case t.wanted <- struct{}{}:
			default:
			}
		}
	case *internalv1.RunRequest_GiveUp:
		if t := r.transfer(fileID{connection, asked.GiveUp.GetFile()}); t != nil {
			t.giveUp()
		}
	}
}

// begin runs a transfer, and says what became of it.
func (r *run) begin(id fileID, work func(*transfer) *internalv1.FileDone) {
	t := &transfer{pieces: make(chan []byte, 1), wanted: make(chan struct{}, 1)}
	t.ctx, t.giveUp = context.WithCancel(r.over)
	r.mu.Lock()
	r.transfers[id] = t
	r.mu.Unlock()
	go func() {
		done := work(t)
		t.giveUp()
		r.mu.Lock()
		delete(r.transfers, id)
		r.mu.Unlock()
		done.File = id.file
		r.say(&internalv1.RunResponse{Connection: id.connection, Response: &internalv1.RunResponse_FileDone{FileDone: done}})
	}()
}

// giveUpAll ends the transfers of a connection that is closed.
func (r *run) giveUpAll(connection uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.transfers {
		if id.connection == connection {
			t.giveUp()
		}
	}
}

func (r *run) transfer(id fileID) *transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.transfers[id]
}

// upload reads the pieces that the node sends as one file.
type upload struct {
	run      *run
	id       fileID
	transfer *transfer
	rest     []byte
	whole    bool
	taken    time.Time // once it is whole
}

func (u *upload) Read(into []byte) (int, error) {
	if len(u.rest) == 0 && !u.whole {
		u.run.say(&internalv1.RunResponse{Connection: u.id.connection, Response: &internalv1.RunResponse_Next{
			Next: &internalv1.NextPiece{File: u.id.file},
		}})
		select {
		case u.rest = <-u.transfer.pieces:
			if u.whole = len(u.rest) == 0; u.whole {
				u.taken = time.Now()
			}
		case <-u.transfer.ctx.Done():
			return 0, u.transfer.ctx.Err()
		}
	}
	if u.whole {
		return 0, io.EOF
	}
	n := copy(into, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// pass gives a file to the node, each piece but the first once it is wanted.
func (r *run) pass(id fileID, t *transfer, file io.Reader) error {
	for {
		piece := make([]byte, pieceBytes)
		n, err := io.ReadFull(file, piece)
		if n > 0 {
			r.say(&internalv1.RunResponse{Connection: id.connection, Response: &internalv1.RunResponse_Piece{
				Piece: &internalv1.FilePiece{File: id.file, Data: piece[:n]},
			}})
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
		select {
		case <-t.wanted:
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// failed says why a file did not get where it was to.
func failed(err error) *internalv1.FileDone {
	failure := internalv1.FileFailure_FILE_FAILURE_NOT_CONNECTED
	switch {
	case errors.Is(err, device.ErrFileRefused):
		failure = internalv1.FileFailure_FILE_FAILURE_REFUSED
	case errors.Is(err, device.ErrFileGone):
		failure = internalv1.FileFailure_FILE_FAILURE_GONE
	case errors.Is(err, device.ErrFileBroken):
		failure = internalv1.FileFailure_FILE_FAILURE_BROKEN
	}
	return &internalv1.FileDone{Failure: failure, Detail: err.Error()}
}
