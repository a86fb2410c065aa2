// A client of WhatsApp Web by another hand than the mesh's, on the test network: Baileys, driven by lines of JSON.
//
//   node client.mjs HOST:PORT ROOT_KEY_HEX
//
// On standard output come, one object a line: {event: "qr", qr}, {event: "open", user}, {event: "closed", code},
// {event: "message", id, from, number, chat, kind, ...}, with what `fieldsOf` finds in it, {event: "receipt", id, status},
// {event: "sent", id, kind, sha256} and {event: "failed", id, kind, reason}. Standard input takes {id, to, kind, ...}; the
// kinds are those of `contents` below. It ends when that does.
import { createCipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { connect as open } from 'node:net';
import { createInterface } from 'node:readline';
import makeWASocket, { DisconnectReason, downloadMediaMessage, getContentType, initAuthCreds, normalizeMessageContent, proto } from 'baileys';
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js';

const [address, root] = process.argv.slice(2);
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(root, 'hex');
const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

// Files are on the test network, too, which speaks no TLS: both ways in which the library asks for them lead there.
const [host, port] = address.split(':');
const fetched = globalThis.fetch;
globalThis.fetch = (url, options) => {
  const { pathname, search } = new URL(url);
  return fetched(`http://${address}${pathname}${search}`, { ...options, dispatcher: undefined });
};
class Loopback extends Agent {
  createConnection() {
    return open(Number(port), host);
  }
}

// Libraries below it print what they do.
console.log = console.info = console.debug = console.warn = console.error;

const log = { level: 'silent', child: () => log };
for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) log[level] = () => {};

// Its state lives as long as this process.
const rows = new Map();
const auth = {
  creds: initAuthCreds(),
  keys: {
    get: (type, ids) => {
      const found = {};
      for (const id of ids) {
        const value = rows.get(`${type} ${id}`);
        if (value !== undefined) {
          found[id] = type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value;
        }
      }
      return found;
    },
    set: (data) => {
      for (const [type, entries] of Object.entries(data)) {
        for (const [id, value] of Object.entries(entries ?? {})) {
          if (value === null || value === undefined) rows.delete(`${type} ${id}`);
          else rows.set(`${type} ${id}`, value);
        }
      }
    },
  },
};

let socket;
function connect() {
  socket = makeWASocket({
    auth,
    waWebSocketUrl: `ws://${address}/ws/chat`,
    version: [2, 3000, 1047769893],
    logger: log,
    fireInitQueries: false,
    generateHighQualityLinkPreview: false,
    syncFullHistory: false,
    shouldSyncHistoryMessage: () => false,
    fetchAgent: new Loopback(),
  });
  socket.ev.on('creds.update', (changed) => Object.assign(auth.creds, changed));
  socket.ev.on('connection.update', ({ connection, lastDisconnect, qr }) => {
    if (qr) say('qr', { qr });
    if (connection === 'open') say('open', { user: socket.user.id });
    if (connection !== 'close') return;
    const code = lastDisconnect?.error?.output?.statusCode;
    if (code === DisconnectReason.restartRequired) connect();
    else {
      say('closed', { code, reason: lastDisconnect?.error?.message });
      process.exit(1);
    }
  });
  socket.ev.on('messages.upsert', async ({ messages }) => {
    for (const message of messages) await came(message);
  });
  socket.ev.on('messages.update', (updates) => {
    for (const { key, update } of updates) if (update.status) say('receipt', { id: key.id, status: update.status });
  });
  socket.ev.on('message-receipt.update', (updates) => {
    for (const { key } of updates) say('receipt', { id: key.id });
  });
}

// Messages that came, by id: some orders are about one.
const kept = new Map();

function fieldsOf(inner) {
  const edited = inner.editedMessage && normalizeMessageContent(inner.editedMessage);
  return {
    text: typeof inner === 'string' ? inner : inner.text || inner.caption || inner.name || inner.displayName || edited?.conversation || edited?.extendedTextMessage?.text,
    target: inner.key?.id || inner.contextInfo?.stanzaId || inner.pollCreationMessageKey?.id || undefined,
    type: inner.type ?? undefined,
    at: inner.degreesLatitude === undefined ? undefined : [inner.degreesLatitude, inner.degreesLongitude],
    vcards: inner.vcard ? [inner.vcard] : inner.contacts?.map(({ vcard }) => vcard),
    answers: inner.options?.map(({ optionName }) => optionName),
    voice: inner.ptt || undefined,
    file: inner.fileName || undefined,
    quoted: quotedText(inner.contextInfo?.quotedMessage),
  };
}

const quotedText = (quoted) => quoted?.conversation || quoted?.extendedTextMessage?.text || undefined;

async function came(message) {
  const content = normalizeMessageContent(message.message);
  const kind = content && getContentType(content);
  if (!kind || message.key.fromMe) return;
  const inner = content[kind];
  kept.set(message.key.id, message);
  const fields = {
    id: message.key.id,
    from: message.key.participant || message.key.remoteJid,
    number: message.key.participantAlt || message.key.remoteJidAlt,
    chat: message.key.remoteJid,
    kind,
    ...fieldsOf(inner),
  };
  if (inner.mediaKey?.length) {
    try {
      const file = await downloadMediaMessage(message, 'buffer', {});
      fields.sha256 = createHash('sha256').update(file).digest('hex');
    } catch (error) {
      fields.problem = String(error);
    }
  }
  say('message', fields);
}

const aboutOf = (order) => ({ remoteJid: jid(order.to), id: order.target, fromMe: order.own ?? false });
const fileOf = (order) => (order.file ? readFileSync(order.file) : Buffer.from(order.text));

const contents = {
  text: (order) => ({ text: order.text }),
  reaction: (order) => ({ react: { text: order.text, key: aboutOf(order) } }),
  edit: (order) => ({ text: order.text, edit: aboutOf({ ...order, own: true }) }),
  revoke: (order) => ({ delete: aboutOf({ ...order, own: true }) }),
  location: (order) => ({ location: { degreesLatitude: 52.5, degreesLongitude: 13.4, name: order.text } }),
  contact: (order) => ({
    contacts: { displayName: order.text, contacts: [{ displayName: order.text, vcard: `BEGIN:VCARD\nVERSION:3.0\nFN:${order.text}\nEND:VCARD` }] },
  }),
  image: (order) => ({ image: fileOf(order), mimetype: 'image/jpeg', jpegThumbnail: '', caption: order.text }),
  video: (order) => ({ video: fileOf(order), mimetype: 'video/mp4', jpegThumbnail: '', caption: order.text, seconds: 1 }),
  voice: (order) => ({ audio: fileOf(order), mimetype: 'audio/ogg; codecs=opus', ptt: true, seconds: 1, waveform: new Uint8Array(64) }),
  audio: (order) => ({ audio: fileOf(order), mimetype: 'audio/mpeg', seconds: 1 }),
  document: (order) => ({ document: fileOf(order), mimetype: 'application/pdf', fileName: `${order.text}.pdf`, caption: order.text }),
  sticker: (order) => ({ sticker: fileOf(order), mimetype: 'image/webp' }),
  poll: (order) => ({ poll: { name: order.text, values: ['yes', 'no'], selectableCount: 1 } }),
};

// The library reads votes and sends none.
async function vote(order) {
  const poll = kept.get(order.target);
  const secret = poll.message.messageContextInfo.messageSecret;
  const voter = poll.key.remoteJid.endsWith('@lid') ? socket.user.lid.replace(/:\d+@/, '@') : socket.user.id.replace(/:\d+@/, '@');
  const hmac = (key, data) => createHmac('sha256', key).update(data).digest();
  const name = Buffer.concat([Buffer.from(order.target + poll.key.remoteJid + voter + 'Poll Vote'), Buffer.from([1])]);
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', hmac(hmac(Buffer.alloc(32), secret), name), iv);
  cipher.setAAD(Buffer.from(`${order.target}\u0000${voter}`));
  const selectedOptions = [createHash('sha256').update(order.text).digest()];
  const plain = proto.Message.PollVoteMessage.encode({ selectedOptions }).finish();
  const encPayload = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  const message = { pollUpdateMessage: { pollCreationMessageKey: poll.key, vote: { encPayload, encIv: iv }, senderTimestampMs: Date.now() } };
  await socket.relayMessage(jid(order.to), message, { messageId: order.id });
  return { key: { id: order.id } };
}

function sendOrder(order) {
  if (order.kind === 'vote') return vote(order);
  const quoted = order.kind === 'text' && order.target ? kept.get(order.target) : undefined;
  return socket.sendMessage(jid(order.to), contents[order.kind](order), { messageId: order.id, quoted });
}

const jid = (to) => (to.includes('@') ? to : `${to.replace('+', '')}@s.whatsapp.net`);

let queue = Promise.resolve();
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const order = JSON.parse(line);
    queue = queue.then(async () => {
      try {
        const sent = await sendOrder(order);
        say('sent', { id: sent.key.id, kind: order.kind });
      } catch (error) {
        say('failed', { id: order.id, kind: order.kind, reason: String(error) });
      }
    });
  })
  .on('close', () => queue.then(() => process.exit(0)));

connect();
