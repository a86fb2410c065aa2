/** Parses what it reads: a text a line, in base64. Answers with a line for each, its canonical form or "-". */

import { createInterface } from "node:readline";

import { parseAddress } from "./addresses.js";

for await (const line of createInterface({ input: process.stdin })) {
  const text = Buffer.from(line, "base64").toString("utf8");
  try {
    console.log(parseAddress(text));
  } catch (error) {
    if (!(error instanceof RangeError)) {
      throw error;
    }
    console.log("-");
  }
}
