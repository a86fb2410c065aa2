package server

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/device"
)

// Bytes in one piece of a file, at most 1 MiB.
const pieceBytes = 256 << 10

// UploadFile stores a file with the network.
func (s *Server) UploadFile(stream grpc.ClientStreamingServer[internalv1.UploadFileRequest, internalv1.UploadFileResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	header := first.GetHeader()
	if header == nil {
		return status.Error(codes.InvalidArgument, "the first request says what the file is of")
	}
	d := s.find(header.GetConnection())
	if d == nil {
		return statusOf(device.ErrNotConnected)
	}
	stored, err := d.Upload(stream.Context(), header.GetKind(), &pieces{stream: stream})
	if err != nil {
		return statusOf(err)
	}
	return stream.SendAndClose(stored)
}

// pieces reads the requests of an upload as one file.
type pieces struct {
	stream grpc.ClientStreamingServer[internalv1.UploadFileRequest, internalv1.UploadFileResponse]
	rest   []byte
}

func (p *pieces) Read(into []byte) (int, error) {
	for len(p.rest) == 0 {
		request, err := p.stream.Recv()
		if err != nil {
			return 0, err
		}
		p.rest = request.GetData()
	}
	n := copy(into, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// DownloadFile gives the bytes of an incoming message's file.
func (s *Server) DownloadFile(request *internalv1.DownloadFileRequest, stream grpc.ServerStreamingServer[internalv1.DownloadFileResponse]) error {
	d := s.find(request.GetConnection())
	if d == nil {
		return statusOf(device.ErrNotConnected)
	}
	err := d.Download(stream.Context(), request.GetFile(), func(file io.Reader) error {
		piece := make([]byte, pieceBytes)
		for {
			n, err := io.ReadFull(file, piece)
			if n > 0 {
				if err := stream.Send(&internalv1.DownloadFileResponse{Data: piece[:n]}); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return statusOf(err)
	}
	return nil
}

func statusOf(err error) error {
	switch {
	case errors.Is(err, device.ErrNotConnected):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, device.ErrFileRefused):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, device.ErrFileGone):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, device.ErrFileBroken):
		return status.Error(codes.DataLoss, err.Error())
	}
	if _, is := status.FromError(err); is {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
