import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import type { sendUnaryData, ServerReadableStream, ServerWritableStream } from "@grpc/grpc-js";

import { type Client, connect, DataLoss, InvalidArgument } from "../src/index.js";
import { type DownloadMediaRequest, MediaService, type UploadHeader, type UploadMediaRequest } from "../src/gen/v1.js";
import { FakeRouter, GOING_AWAY, type Refusal, refused } from "./fake-router.js";

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

/** Keeps what is uploaded; breaks off after `breakAfter` chunks, as often as `breaks` says. */
class Mesh {
  readonly headers: UploadHeader[] = [];
  readonly offsets: bigint[] = [];
  stored: Buffer = Buffer.alloc(0);
  announced: Buffer | undefined;
  breaks = 0;
  breakAfter = 1;
  refusal: Refusal | undefined;

  readonly uploadMedia = (
    call: ServerReadableStream<UploadMediaRequest, object>,
    respond: sendUnaryData<object>,
  ): void => {
    const chunks: Uint8Array[] = [];
    call.on("data", ({ frame }: UploadMediaRequest) => {
      if (frame.case === "header") {
        this.headers.push(frame.value);
      } else if (frame.case === "chunk") {
        chunks.push(frame.value);
      }
      if (this.refusal !== undefined) {
        respond(refused(this.refusal));
      } else if (this.breaks > 0 && chunks.length === this.breakAfter) {
        this.breaks -= 1;
        respond(refused(GOING_AWAY));
      }
    });
    call.on("end", () => {
      this.stored = Buffer.concat(chunks);
      respond(null, { media: { id: "med_1", sizeBytes: BigInt(this.stored.length) } });
    });
  };

  readonly downloadMedia = (call: ServerWritableStream<DownloadMediaRequest, object>): void => {
    const { offsetBytes } = call.request;
    this.offsets.push(offsetBytes);
    const header = {
      media: { id: "med_1" },
      sizeBytes: BigInt(this.stored.length),
      sha256: this.announced ?? sha256(this.stored),
    };
    call.write({ frame: { case: "header", value: header } });
    let sent = 0;
    for (let at = Number(offsetBytes); at < this.stored.length; at += 64 * 1024, sent += 1) {
      if (this.breaks > 0 && sent === this.breakAfter) {
        this.breaks -= 1;
        call.emit("error", refused(GOING_AWAY));
        return;
      }
      call.write({ frame: { case: "chunk", value: this.stored.subarray(at, at + 64 * 1024) } });
    }
    call.end();
  };
}

async function withMesh(use: (client: Client, mesh: Mesh, folder: string) => Promise<void>): Promise<void> {
  const mesh = new Mesh();
  const router = await FakeRouter.start([
    [MediaService, { uploadMedia: mesh.uploadMedia, downloadMedia: mesh.downloadMedia }],
  ]);
  const client = connect(router.address, "smk_1");
  const folder = await mkdtemp(join(tmpdir(), "media-"));
  try {
    await use(client, mesh, folder);
  } finally {
    client.close();
    router.kill();
    await rm(folder, { recursive: true });
  }
}

test("a file goes up and comes down, and tells its progress", () =>
  withMesh(async (client, mesh, folder) => {
    const content = randomBytes(700_000);
    const [source, copy] = [join(folder, "source.bin"), join(folder, "copy.bin")];
    await writeFile(source, content);
    const up: number[] = [];
    const media = await client.upload(source, { accountId: "acc_1", progress: (done, total) => up.push(done / total) });
    assert.equal(media.id, "med_1");
    const [header] = mesh.headers;
    assert.equal(header?.options?.fileName, "source.bin");
    assert.equal(header?.accountId, "acc_1");
    assert.equal(header?.sizeBytes, 700_000n);
    assert.deepEqual(Buffer.from(header?.options?.sha256 ?? []), sha256(content));
    assert.equal(up.at(-1), 1);
    assert.equal((await client.downloadTo("med_1", copy)).id, "med_1");
    assert.deepEqual(await readFile(copy), content);
    assert.deepEqual((await readdir(folder)).sort(), ["copy.bin", "source.bin"]);
  }));

test("an upload that breaks off begins again under the same request id", () =>
  withMesh(async (client, mesh) => {
    const content = randomBytes(600_000);
    mesh.breaks = 2;
    await client.upload(content, { fileName: "x.bin" });
    assert.deepEqual(mesh.stored, content);
    assert.equal(mesh.headers.length, 3);
    assert.equal(new Set(mesh.headers.map(({ requestId }) => requestId)).size, 1);
  }));

test("a refused upload says why, before all is sent", () =>
  withMesh(async (client, mesh) => {
    mesh.refusal = { code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", field: "header.size_bytes" };
    let sent = 0;
    const upload = client.upload(randomBytes(8_000_000), { progress: (done) => (sent = done) });
    await assert.rejects(upload, (error) => {
      assert.ok(error instanceof InvalidArgument);
      return error.fieldViolations[0]?.field === "header.size_bytes";
    });
    assert.ok(sent < 8_000_000);
  }));

test("a stream of requests that is refused is asked for no more, and closed", { timeout: 10_000 }, () =>
  withMesh(async (client, mesh) => {
    mesh.refusal = { code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", field: "header" };
    await new Promise<void>((closed, failed) => {
      async function* requests() {
        try {
          for (;;) {
            yield { frame: { case: "chunk", value: new Uint8Array(256 * 1024) } } as const;
          }
        } finally {
          closed();
        }
      }
      assert.rejects(client.media.uploadMedia(requests()), InvalidArgument).catch(failed);
    });
  }),
);

test("a callback that fails ends the upload with its error", () =>
  withMesh(async (client) => {
    const failure = new Error("the window is closed");
    const progress = (): never => {
      throw failure;
    };
    await assert.rejects(client.upload(randomBytes(600_000), { progress }), failure);
  }));

test("what cannot be read is told before anything is sent", () =>
  withMesh(async (client, mesh, folder) => {
    await assert.rejects(client.upload(join(folder, "nothing")), { code: "ENOENT" });
    assert.deepEqual(mesh.headers, []);
  }));

test("a download goes on where it broke off, as often as there is some progress", () =>
  withMesh(async (client, mesh) => {
    mesh.stored = randomBytes(10 * 64 * 1024);
    mesh.breaks = 9;
    assert.deepEqual(Buffer.from(await client.download("med_1")), mesh.stored);
    assert.deepEqual(
      mesh.offsets,
      Array.from({ length: 10 }, (_, part) => BigInt(part * 64 * 1024)),
    );
  }));

test("a download that is not what is stored leaves what was there", () =>
  withMesh(async (client, mesh, folder) => {
    mesh.stored = randomBytes(100_000);
    mesh.announced = sha256(Buffer.from("something else"));
    const place = join(folder, "kept.bin");
    await writeFile(place, "as it was");
    await assert.rejects(client.downloadTo("med_1", place), DataLoss);
    assert.equal(await readFile(place, "utf8"), "as it was");
    assert.deepEqual(await readdir(folder), ["kept.bin"]);
  }));

test("a file that changes while it is downloaded is not put together", () =>
  withMesh(async (client, mesh) => {
    mesh.stored = randomBytes(200_000);
    mesh.breaks = 1;
    const chunks = client.downloadChunks("med_1");
    await chunks.next();
    mesh.stored = randomBytes(200_000);
    await assert.rejects(async () => {
      for await (const _ of chunks);
    }, /has changed while it was downloaded/);
  }));
