/** Downloads, to memory or to a file. */
import { createHash, randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { create } from "@bufbuild/protobuf";

import { type Caller, isRepeatable } from "./caller.js";
import { DataLoss, failureOf } from "./errors.js";
import { type DownloadHeader, DownloadHeaderSchema, type Media, MediaService } from "./gen/v1.js";
import { serverStreamOnce } from "./streams.js";
import type { Progress } from "./uploads.js";

/** How a file is fetched. */
export interface DownloadOptions {
  readonly progress?: Progress | undefined;
  /** 5 minutes unless it is given; without a limit for `downloadChunks`. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The download of one file. It resumes where it broke off, and is checked against its sha256. */
export class Download {
  header: DownloadHeader = create(DownloadHeaderSchema);
  readonly #caller: Caller;
  readonly #mediaId: string;
  readonly #options: DownloadOptions;
  readonly #digest = createHash("sha256");
  #done = 0;

  constructor(caller: Caller, mediaId: string, options: DownloadOptions) {
    this.#caller = caller;
    this.#mediaId = mediaId;
    this.#options = options;
  }

  /** The stored bytes, in order. Throws `MeshCallError`, `DataLoss` at the end of what is not right. */
  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    const { signal } = this.#options;
    const method = MediaService.method.downloadMedia;
    const attempts = this.#caller.attempts(isRepeatable(method), this.#options, NO_LIMIT_MS);
    for (;;) {
      signal?.throwIfAborted();
      const startedAt = this.#done;
      try {
        const request = create(method.input, { mediaId: this.#mediaId, offsetBytes: BigInt(this.#done) });
        for await (const { frame } of serverStreamOnce(this.#caller, method, request, attempts, this.#options)) {
          if (frame.case === "header") {
            this.#begin(frame.value);
          } else if (frame.case === "chunk") {
            this.#count(frame.value);
            yield frame.value;
          }
        }
        this.#check();
        this.#caller.budget.earn();
        return;
      } catch (error) {
        signal?.throwIfAborted();
        if (this.#done > startedAt) {
          attempts.number = 0;
        }
        await this.#caller.retry(attempts, failureOf(error));
      }
    }
  }

  #begin(header: DownloadHeader): void {
    if (this.#done > 0 && !Buffer.from(header.sha256).equals(this.header.sha256)) {
      throw new DataLoss("DATA_LOSS", `${this.#mediaId} has changed while it was downloaded`);
    }
    this.header = header;
  }

  #count(chunk: Uint8Array): void {
    this.#done += chunk.length;
    this.#digest.update(chunk);
    this.#options.progress?.(this.#done, Number(this.header.sizeBytes));
  }

  #check(): void {
    const right = BigInt(this.#done) === this.header.sizeBytes && this.#digest.digest().equals(this.header.sha256);
    if (!right) {
      throw new DataLoss("DATA_LOSS", `what arrived of ${this.#mediaId} is not what is stored`);
    }
  }
}

/**
 * Puts it at `path`, which is written only when all has arrived and is right; then it is replaced at once. Rejects with
 * `MeshCallError`, and with Node's error when the file cannot be written.
 */
export async function downloadToFile(download: Download, path: string): Promise<Media> {
  const unfinished = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString("hex")}.part`);
  const file = await open(unfinished, "wx");
  try {
    try {
      for await (const chunk of download.chunks()) {
        await file.write(chunk);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  return download.header.media as Media;
}

const NO_LIMIT_MS = 24 * 3600 * 1000;
