module sessionmesh.dev/acceptance/go_client

go 1.26.0

require (
	google.golang.org/grpc v1.83.2
	sessionmesh.dev/gen v0.0.0
)

require (
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace sessionmesh.dev/gen => ../../../stubs/go
