/** The client: one property per service, and short forms of what is done most. */
import { type Sendable, sendBatch, type SendOutcome } from "./batch.js";
import { type BulkOptions, BulkSender } from "./bulk.js";
import { Caller } from "./caller.js";
import { Routers, type Tls } from "./channels.js";
import { type TextOptions, textMessage } from "./content.js";
import { Download, type DownloadOptions, downloadToFile } from "./downloads.js";
import type { Account, Media, Message, PairResponse, Session } from "./gen/v1.js";
import type { CallOptions } from "./outgoing.js";
import { serviceCalls, SERVICES, type Services } from "./services.js";
import { pairing, type PairOptions, watching } from "./sessions.js";
import { type SubscribeOptions, Subscription } from "./subscriptions.js";
import { checkApiKey, routersOf } from "./target.js";
import { upload, type UploadOptions } from "./uploads.js";

/** How a client connects. */
export interface ConnectOptions {
  /** Speaks TLS; `{}` trusts whom Node trusts. */
  readonly tls?: Tls | undefined;
}

/**
 * A client of the mesh at `target` that speaks for `apiKey`.
 *
 * `target` is a router's host:port, several of them ("a:7600,b:7600" or an array), or `dns:///name:port` for all the
 * addresses of a name. Connects when it is first called. Throws `InvalidArgument` for what can be no target or key.
 */
export function connect(target: string | readonly string[], apiKey: string, options: ConnectOptions = {}): Client {
  const routers = routersOf(target);
  checkApiKey(apiKey);
  return new Client(new Caller(new Routers(routers, options.tls), apiKey));
}

/**
 * Calls the mesh for one API key.
 *
 * Each service is a property whose methods take the request and options: `client.accounts.getAccount({ accountId })`.
 * Methods that stream give what is iterated over with `for await`; leaving the loop ends the call. A required
 * `requestId` that is empty is filled in on the way. Failures are `MeshCallError`.
 */
export class Client implements AsyncDisposable {
  readonly #caller: Caller;

  constructor(caller: Caller) {
    this.#caller = caller;
    const services = Object.entries(SERVICES).map(([name, service]) => [name, serviceCalls(caller, service)]);
    Object.assign(this, Object.fromEntries(services));
  }

  /** Closes the connections; calls on them end with `Cancelled`. */
  close(): void {
    this.#caller.routers.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** The account. */
  async getAccount(accountId: string, options?: CallOptions): Promise<Account> {
    const { account } = await this.accounts.getAccount({ accountId }, options);
    return account as Account;
  }

  /**
   * Sends `text` to an address, such as `phone:+4915112345678` or `group:...`; the message as accepted. A bare phone
   * number in E.164 is an address, too.
   */
  async sendText(
    accountId: string,
    to: string,
    text: string,
    options: TextOptions & CallOptions = {},
  ): Promise<Message> {
    const { message } = await this.messages.sendMessage(textMessage(accountId, to, text, options), options);
    return message as Message;
  }

  /**
   * Sends up to 1,000 messages in one call; each one's result, in their order. For more, use `bulk`. Messages whose
   * account is moving are sent again, under the same request ids.
   */
  async sendMany(requests: Iterable<Sendable>, options: CallOptions = {}): Promise<SendOutcome[]> {
    return await sendBatch(this.#caller, requests, options);
  }

  /** Sends many messages fast: `await using bulk = client.bulk()`, then `bulk.send` or `bulk.results`. */
  bulk(options: BulkOptions = {}): BulkSender {
    return new BulkSender(this.#caller, options);
  }

  /**
   * Stores a file, by its path, or bytes; the media once it is READY. A broken upload begins again, within its timeout.
   * `progress` is called as bytes are sent.
   */
  async upload(source: string | Uint8Array, options: UploadOptions = {}): Promise<Media> {
    return await upload(this.#caller, source, options);
  }

  /** The media's stored bytes, checked against their sha256. */
  async download(mediaId: string, options: DownloadOptions = {}): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of new Download(this.#caller, mediaId, { timeoutMs: FILE_MS, ...options }).chunks()) {
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /**
   * Puts the stored bytes into a file, which is written only when all of it is there and right. A broken download goes
   * on where it was.
   */
  async downloadTo(mediaId: string, path: string, options: DownloadOptions = {}): Promise<Media> {
    return await downloadToFile(new Download(this.#caller, mediaId, { timeoutMs: FILE_MS, ...options }), path);
  }

  /** The stored bytes, chunk by chunk; `DataLoss` at the end of what does not have the right sha256. */
  downloadChunks(mediaId: string, options: DownloadOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    return new Download(this.#caller, mediaId, options).chunks();
  }

  /** The tenant's events after `cursor`, or from the oldest kept, or from now on: iterate over it. */
  subscribe(options: SubscribeOptions = {}): Subscription {
    return new Subscription(this.events, options);
  }

  /**
   * Pairs the account by QR, or by a code typed on `phone`: the steps to show, each once. What the steps `passkey` and
   * `confirm` ask is answered by `sessions.answerPairing`. The attempt goes on when the connection breaks.
   */
  pair(accountId: string, options: PairOptions = {}): AsyncGenerator<PairResponse, void, undefined> {
    return pairing(this.sessions, accountId, options);
  }

  /** The account's session now and after each change, also when its owner changes. */
  watchSession(accountId: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<Session, void, undefined> {
    return watching(this.sessions, accountId, options.signal);
  }
}

/** What the constructor adds. */
export interface Client extends Services {}

const FILE_MS = 300_000;
