/** The services of the mesh, with the methods of their generated descriptors. */
import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";

import type { Caller } from "./caller.js";
import { FleetService } from "./gen/admin.js";
import { SimulatorService } from "./gen/simulator.js";
import * as v1 from "./gen/v1.js";
import type { CallOptions } from "./outgoing.js";
import { bidiStream, clientStream, type Requests, serverStream } from "./streams.js";

/** The methods of a service, named and typed as in the protos. */
export type ServiceCalls<Service extends DescService> = {
  readonly [Name in keyof Service["method"]]: MethodCall<Service["method"][Name]>;
};

type MethodCall<Method> =
  Method extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : Method extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncGenerator<MessageShape<O>, void, undefined>
      : Method extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: Requests<I>, options?: CallOptions) => Promise<MessageShape<O>>
        : Method extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: Requests<I>, options?: CallOptions) => AsyncGenerator<MessageShape<O>, void, undefined>
          : never;

/** The services by their names in a client. */
export const SERVICES = {
  accounts: v1.AccountService,
  sessions: v1.SessionService,
  messages: v1.MessageService,
  chats: v1.ChatService,
  contacts: v1.ContactService,
  groups: v1.GroupService,
  communities: v1.CommunityService,
  channels: v1.ChannelService,
  presence: v1.PresenceService,
  profiles: v1.ProfileService,
  calls: v1.CallService,
  templates: v1.TemplateService,
  media: v1.MediaService,
  webhooks: v1.WebhookService,
  events: v1.EventService,
  jobs: v1.JobService,
  tenants: v1.TenantService,
  audit: v1.AuditService,
  server: v1.ServerService,
  fleet: FleetService,
  simulator: SimulatorService,
} as const;

/** All services of a client. */
export type Services = { readonly [Name in keyof typeof SERVICES]: ServiceCalls<(typeof SERVICES)[Name]> };

/** The methods of one service. */
export function serviceCalls<Service extends DescService>(caller: Caller, service: Service): ServiceCalls<Service> {
  const calls = service.methods.map((method) => [method.localName, methodCall(caller, method)]);
  return Object.fromEntries(calls) as ServiceCalls<Service>;
}

function methodCall(caller: Caller, method: DescMethod): unknown {
  switch (method.methodKind) {
    case "unary":
      return caller.call.bind(caller, method as DescMethodUnary);
    case "server_streaming":
      return serverStream.bind(undefined, caller, method as DescMethodServerStreaming);
    case "client_streaming":
      return clientStream.bind(undefined, caller, method as DescMethodClientStreaming);
    case "bidi_streaming":
      return bidiStream.bind(undefined, caller, method as DescMethodBiDiStreaming);
  }
}
