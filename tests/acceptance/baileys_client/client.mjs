// A client of WhatsApp Web by another hand than the mesh's, on the test network: Baileys, driven by lines of JSON.
//
//   node client.mjs HOST:PORT ROOT_KEY_HEX
//
// On standard output come, one object a line: {event: "qr", qr}, {event: "open", user}, {event: "closed", code},
// {event: "message", id, from, chat, kind, text, sha256, target}, {event: "receipt", id, status}, {event: "sent", id, kind} and
// {event: "failed", id, reason}. Standard input takes {id, to, kind, ...}; the kinds are those of `contents` below. It ends
// when that does.
import { createHash } from 'node:crypto';
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

async function came(message) {
  const content = normalizeMessageContent(message.message);
  const kind = content && getContentType(content);
  if (!kind || message.key.fromMe) return;
  const inner = content[kind];
  const fields = {
    id: message.key.id,
    from: message.key.participant || message.key.remoteJid,
    number: message.key.participantAlt || message.key.remoteJidAlt,
    chat: message.key.remoteJid,
    kind,
    text: typeof inner === 'string' ? inner : inner.text || inner.caption || inner.name || inner.displayName,
    target: inner.key?.id || inner.contextInfo?.stanzaId || undefined,
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

const contents = {
  text: (order) => ({ text: order.text }),
  reaction: (order) => ({ react: { text: order.text, key: { remoteJid: jid(order.to), id: order.target, fromMe: order.own ?? false } } }),
  edit: (order) => ({ text: order.text, edit: { remoteJid: jid(order.to), id: order.target, fromMe: true } }),
  revoke: (order) => ({ delete: { remoteJid: jid(order.to), id: order.target, fromMe: true } }),
  location: () => ({ location: { degreesLatitude: 52.5, degreesLongitude: 13.4, name: 'Berlin' } }),
  contact: (order) => ({
    contacts: { displayName: order.text, contacts: [{ displayName: order.text, vcard: `BEGIN:VCARD\nVERSION:3.0\nFN:${order.text}\nEND:VCARD` }] },
  }),
  image: (order) => ({ image: Buffer.from(order.text), mimetype: 'image/jpeg', jpegThumbnail: '', caption: order.text }),
  poll: (order) => ({ poll: { name: order.text, values: ['yes', 'no'], selectableCount: 1 } }),
};

const jid = (to) => (to.includes('@') ? to : `${to.replace('+', '')}@s.whatsapp.net`);

let queue = Promise.resolve();
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const order = JSON.parse(line);
    queue = queue.then(async () => {
      try {
        const sent = await socket.sendMessage(jid(order.to), contents[order.kind](order), { messageId: order.id });
        say('sent', { id: sent.key.id, kind: order.kind });
      } catch (error) {
        say('failed', { id: order.id, kind: order.kind, reason: String(error) });
      }
    });
  })
  .on('close', () => queue.then(() => process.exit(0)));

connect();
