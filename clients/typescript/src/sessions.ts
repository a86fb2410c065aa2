/** Pairing an account, and watching its session, across connections that break and owners that change. */
import { create, equals } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import { FailedPrecondition } from "./errors.js";
import {
  PairMethod,
  PairRequestSchema,
  type PairResponse,
  PairResponseSchema,
  type Session,
  SessionSchema,
  type SessionService,
} from "./gen/v1.js";
import { checkedTimeout, newRequestId } from "./outgoing.js";
import { resumed } from "./resuming.js";
import type { ServiceCalls } from "./services.js";

/** How an account is paired. */
export interface PairOptions {
  /** Pairs by a code that is typed on this phone, `+49...`, instead of by QR. */
  readonly phone?: string | undefined;
  /** How long the attempt may take: 3 minutes unless said otherwise, at most 10. */
  readonly patienceMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The steps of one attempt, each once; the last is paired, timedOut or refused. */
export async function* pairing(
  sessions: ServiceCalls<typeof SessionService>,
  accountId: string,
  { phone = "", patienceMs, signal }: PairOptions,
): AsyncGenerator<PairResponse, void, undefined> {
  const request = create(PairRequestSchema, {
    accountId,
    requestId: newRequestId(),
    phone,
    method: phone ? PairMethod.CODE : PairMethod.QR,
    timeout: patienceMs === undefined ? undefined : durationFromMs(checkedTimeout(patienceMs)),
  });
  let last = create(PairResponseSchema);
  try {
    const open = (ended: AbortSignal) => {
      request.attemptId = last.attemptId;
      return sessions.pair(request, { signal: ended });
    };
    for await (const step of resumed(open, { signal })) {
      if (!equals(PairResponseSchema, step, last)) {
        last = step;
        yield step;
      }
    }
  } catch (error) {
    // The pairing succeeded while the stream was broken.
    if (!(error instanceof FailedPrecondition && error.reason === "ALREADY_PAIRED" && last.attemptId !== "")) {
      throw error;
    }
    const { session } = await sessions.getSession({ accountId }, { signal });
    yield create(PairResponseSchema, { attemptId: last.attemptId, step: { case: "paired", value: { session } } });
  }
}

/** The session now, and whenever it has changed. */
export async function* watching(
  sessions: ServiceCalls<typeof SessionService>,
  accountId: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Session, void, undefined> {
  let last = create(SessionSchema);
  const open = (ended: AbortSignal) => sessions.watchSession({ accountId }, { signal: ended });
  for await (const { session } of resumed(open, { signal })) {
    if (session !== undefined && !equals(SessionSchema, session, last)) {
      last = session;
      yield session;
    }
  }
}
