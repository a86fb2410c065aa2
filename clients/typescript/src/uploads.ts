/** Uploads of files and bytes. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename } from "node:path";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type { Caller } from "./caller.js";
import { failureOf } from "./errors.js";
import {
  type Media,
  MediaService,
  type StorageOptionsSchema,
  type UploadHeader,
  UploadHeaderSchema,
  type UploadMediaRequest,
  UploadMediaRequestSchema,
} from "./gen/v1.js";
import { newRequestId } from "./outgoing.js";
import { clientStreamOnce } from "./streams.js";

/** Called with the bytes done and all there are; an upload that begins again starts over at a lower number. */
export type Progress = (done: number, total: number) => void;

/** How a file is stored. */
export interface UploadOptions {
  /** The source's own name unless it is given. */
  readonly fileName?: string | undefined;
  /** What the bytes say, or else the name, unless it is given. */
  readonly mimeType?: string | undefined;
  /** Only with an administrator's key, and then required. */
  readonly tenantId?: string | undefined;
  /** Whom it is for: required with a key that is limited to accounts. */
  readonly accountId?: string | undefined;
  /** More of how it is stored. */
  readonly storage?: MessageInitShape<typeof StorageOptionsSchema> | undefined;
  readonly requestId?: string | undefined;
  readonly progress?: Progress | undefined;
  /** 5 minutes unless it is given. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes that can be read more than once. */
interface Source {
  readonly size: number;
  readonly name: string;
  chunks(): AsyncIterable<Uint8Array>;
}

/**
 * Stores a file, by its path, or bytes; the media once it is READY. A broken upload begins again under the same request
 * id, which makes that harmless. Rejects with `MeshCallError`, and with Node's error for a file that cannot be read.
 */
export async function upload(caller: Caller, from: string | Uint8Array, options: UploadOptions): Promise<Media> {
  const attempts = caller.attempts(true, options, TIMEOUT_MS);
  const source = await sourceOf(from);
  const storage = options.storage ?? {};
  const header = create(UploadHeaderSchema, {
    requestId: options.requestId || newRequestId(),
    tenantId: options.tenantId ?? "",
    accountId: options.accountId ?? "",
    sizeBytes: BigInt(source.size),
    options: {
      ...storage,
      fileName: options.fileName || storage.fileName || source.name,
      mimeType: options.mimeType || storage.mimeType || "",
      sha256: await sha256(source),
    },
  });
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      const frames = framesOf(header, source, options.progress);
      const { media } = await clientStreamOnce(caller, MediaService.method.uploadMedia, frames, attempts, options);
      caller.budget.earn();
      return media as Media;
    } catch (error) {
      options.signal?.throwIfAborted();
      await caller.retry(attempts, failureOf(error));
    }
  }
}

async function* framesOf(
  header: UploadHeader,
  source: Source,
  progress: Progress | undefined,
): AsyncGenerator<UploadMediaRequest, void, undefined> {
  yield create(UploadMediaRequestSchema, { frame: { case: "header", value: header } });
  let done = 0;
  for await (const chunk of source.chunks()) {
    yield create(UploadMediaRequestSchema, { frame: { case: "chunk", value: chunk } });
    done += chunk.length;
    progress?.(done, source.size);
  }
}

async function sourceOf(from: string | Uint8Array): Promise<Source> {
  if (typeof from === "string") {
    const { size } = await stat(from);
    return { size, name: basename(from), chunks: () => createReadStream(from, { highWaterMark: CHUNK }) };
  }
  return { size: from.length, name: "", chunks: () => slices(from) };
}

async function* slices(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for (let start = 0; start < bytes.length; start += CHUNK) {
    yield bytes.subarray(start, start + CHUNK);
  }
}

async function sha256(source: Source): Promise<Uint8Array> {
  const digest = createHash("sha256");
  for await (const chunk of source.chunks()) {
    digest.update(chunk);
  }
  return digest.digest();
}

const CHUNK = 256 * 1024;
const TIMEOUT_MS = 300_000;
