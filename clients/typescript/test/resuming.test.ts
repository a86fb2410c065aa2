import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { NotFound, Unavailable } from "../src/errors.js";
import { resumed } from "../src/resuming.js";

const SILENCE_MS = 40_000;

/** Opens streams that give one number each, and then nothing until they are ended. */
function silentStreams(): { opened: AbortSignal[]; open: (signal: AbortSignal) => AsyncGenerator<number> } {
  const opened: AbortSignal[] = [];
  return {
    opened,
    async *open(signal) {
      opened.push(signal);
      yield opened.length;
      await once(signal, "abort");
      throw signal.reason;
    },
  };
}

test("a stream that falls silent is replaced", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { opened, open } = silentStreams();
  const numbers = resumed(open, { silenceMs: SILENCE_MS });
  assert.equal((await numbers.next()).value, 1);
  const second = numbers.next();
  context.mock.timers.tick(SILENCE_MS);
  assert.equal((await second).value, 2);
  assert.deepEqual(
    opened.map(({ aborted }) => aborted),
    [true, false],
  );
});

test("a stream is not silent while its reader is busy", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { opened, open } = silentStreams();
  const numbers = resumed(open, { silenceMs: SILENCE_MS });
  await numbers.next();
  context.mock.timers.tick(10 * SILENCE_MS);
  assert.deepEqual(
    opened.map(({ aborted }) => aborted),
    [false],
  );
  await assert.doesNotReject(Promise.all([numbers.next(), context.mock.timers.tick(SILENCE_MS)]));
});

test("a mesh from which nothing ever came is not waited for again and again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  async function* open(signal: AbortSignal): AsyncGenerator<number> {
    await once(signal, "abort");
    throw signal.reason;
  }
  const first = resumed(open, { silenceMs: SILENCE_MS }).next();
  context.mock.timers.tick(SILENCE_MS);
  await assert.rejects(first, Unavailable);
});

test("a stream that ends for a reason of the mesh's is not opened again", async () => {
  let streams = 0;
  async function* open(): AsyncGenerator<number> {
    streams += 1;
    yield streams;
    throw new NotFound("NOT_FOUND", "the account is deleted", { reason: "RESOURCE_NOT_FOUND" });
  }
  await assert.rejects(async () => {
    for await (const _ of resumed(open, {}));
  }, NotFound);
  assert.equal(streams, 1);
});
