package content

import (
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

func location(place *sessionmeshv1.LocationContent, context *waE2E.ContextInfo) *waE2E.LocationMessage {
	return &waE2E.LocationMessage{
		DegreesLatitude: proto.Float64(place.GetLatitude()), DegreesLongitude: proto.Float64(place.GetLongitude()),
		Name: optional(place.GetName()), Address: optional(place.GetStreetAddress()), URL: optional(place.GetUrl()),
		ContextInfo: context,
	}
}

func liveLocation(place *sessionmeshv1.LiveLocationContent, context *waE2E.ContextInfo) *waE2E.LiveLocationMessage {
	out := &waE2E.LiveLocationMessage{
		DegreesLatitude: proto.Float64(place.GetLatitude()), DegreesLongitude: proto.Float64(place.GetLongitude()),
		Caption: optional(place.GetCaption()), SequenceNumber: proto.Int64(time.Now().UnixMicro()), ContextInfo: context,
	}
	if place.Accuracy != nil {
		out.AccuracyInMeters = proto.Uint32(uint32(max(place.GetAccuracy(), 0)))
	}
	if place.Speed != nil {
		out.SpeedInMps = proto.Float32(float32(place.GetSpeed()))
	}
	if place.Heading != nil {
		out.DegreesClockwiseFromMagneticNorth = proto.Uint32(uint32(max(place.GetHeading(), 0)))
	}
	return out
}
