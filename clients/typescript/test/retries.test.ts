import assert from "node:assert/strict";
import { test } from "node:test";

import { type MeshCallError, Unavailable, Unreachable } from "../src/errors.js";
import { Attempts, backoff, MAX_RETRIES, pauseBefore, RetryBudget } from "../src/retries.js";

const busy = (reason: string, retryAfterMs?: number): MeshCallError =>
  new Unavailable("UNAVAILABLE", "busy", { reason, retryAfterMs });
const [low, high] = [() => 0, () => 1];

test("only what is unavailable, and says when or was not processed, is tried again", () => {
  assert.equal(pauseBefore(0, busy("DATABASE_UNAVAILABLE")), undefined);
  assert.equal(pauseBefore(0, busy("DATABASE_UNAVAILABLE", 700), high), 700);
  assert.equal(pauseBefore(0, busy("GOING_AWAY"), high), 50);
  assert.equal(pauseBefore(0, busy(""), low), 0);
  assert.equal(pauseBefore(3, busy(""), high), 800);
  assert.equal(pauseBefore(MAX_RETRIES, busy("")), undefined);
  assert.equal(pauseBefore(0, new Unreachable("nothing listens", false), low), 50);
});

test("pauses grow from 100 ms to 3 s, half of each at random", () => {
  assert.deepEqual(
    [0, 1, 2, 20].map((attempt) => backoff(attempt, low)),
    [50, 100, 200, 1_500],
  );
  assert.deepEqual(
    [0, 1, 2, 20].map((attempt) => backoff(attempt, high)),
    [100, 200, 400, 3_000],
  );
});

test("the budget is a fifth of what succeeds, and some more after a quiet time", () => {
  let now = 0;
  const budget = new RetryBudget(() => now);
  const spendAll = (): number => {
    let spent = 0;
    while (budget.spend()) {
      spent += 1;
    }
    return spent;
  };
  assert.equal(spendAll(), 20);
  for (let call = 0; call < 52; call += 1) {
    budget.earn();
  }
  assert.equal(spendAll(), 10);
  now += 5_000;
  assert.equal(spendAll(), 5);
});

test("what may not be repeated is tried again only if it was never sent, and what lasts never", async () => {
  const attempts = (repeatable: boolean): Attempts => new Attempts(new RetryBudget(), 10_000, repeatable);
  assert.equal(await attempts(false).pause(busy("")), false);
  assert.equal(await attempts(true).pause(busy("")), true);
  assert.equal(await attempts(false).pause(new Unreachable("nothing listens", false)), true);
  assert.equal(await attempts(true).pause(new Unreachable("speaks TLS", true)), false);
});

test("no retry begins that would come after the deadline", async () => {
  const attempts = new Attempts(new RetryBudget(), 1_000, true);
  assert.equal(await attempts.pause(busy("NO_INSTANCE", 2_000)), false);
});

test("after the first, retries of what the mesh answered come out of the budget", async () => {
  const budget = new RetryBudget();
  while (budget.spend());
  const attempts = new Attempts(budget, 10_000, true);
  assert.equal(await attempts.pause(busy("NOT_OWNER", 0)), true);
  assert.equal(await attempts.pause(busy("NOT_OWNER", 0)), false);
});
