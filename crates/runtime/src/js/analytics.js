// engawa:analytics — `env.<dataset>.writeDataPoint()`.
//
// A point costs the request nothing: it goes into an array that all requests of this
// isolate share, and one flush at a time posts the array as a batch with a key, so that
// a repeat after a lost connection is not counted twice. The flush belongs to the
// request that found none pending, through `waitUntil`.
import runtime from 'cloudflare-internal:workers';

const FLUSH_AFTER_MS = 20;
const FLUSH_POINTS = 500;
const FLUSH_BYTES = 256 * 1024;
const MAX_BUFFERED = 10_000;
const MAX_BUFFERED_BYTES = 32 * 1024 * 1024;
// A flush that did nothing for so long went with its request: another takes over.
const FLUSH_STALLS_MS = 30_000;
const ATTEMPTS = 5;
const MAX_LISTED = 20;
const MAX_INDEX_BYTES = 96;
const MAX_BLOBS_BYTES = 16_000;

const utf8 = new TextEncoder();

// One batch sequence for each isolate. The boot id is made at the first point, because
// randomness is not allowed while a module is being loaded.
let boot = null;
let batchNumber = 0;
let buffered = [];
let bufferedBytes = 0;
let lost = 0;
// When the flush under way, if there is one, last did something.
let flushedAt = null;

function bytes(value) {
  if (value === null || value === undefined) return null;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return utf8.encode(String(value));
}

function base64(value) {
  if (value === null) return null;
  let text = '';
  for (const byte of value) text += String.fromCharCode(byte);
  return btoa(text);
}

function list(value, field, max) {
  if (value === undefined) return [];
  if (!Array.isArray(value)) {
    throw new TypeError(`Incorrect type for the '${field}' field on 'AnalyticsEngineEvent': the provided value is not of type 'Array'.`);
  }
  if (value.length > max) throw new TypeError(`writeDataPoint(): Maximum of ${max} ${field} supported.`);
  return value;
}

async function post(fetcher, key, batch, lostBefore) {
  const body = JSON.stringify({ boot, batch: key, lost: lostBefore, points: batch });
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt > 0) await scheduler.wait(50 * 2 ** attempt);
    try {
      const response = await fetcher.fetch('http://analytics/v1/points', { method: 'POST', body });
      await response.body?.cancel();
      if (response.ok) return true;
      if (response.status !== 503) return false;
    } catch {
      // A lost connection: the key makes a repeat harmless.
    }
  }
  return false;
}

// The points of the next batch: bounded in number and in bytes.
function take() {
  let count = 0;
  let bytes = 0;
  while (count < buffered.length && count < FLUSH_POINTS && bytes < FLUSH_BYTES) bytes += buffered[count++].bytes;
  bufferedBytes -= bytes;
  return buffered.splice(0, count).map(({ point }) => point);
}

async function flush(fetcher) {
  try {
    while (buffered.length > 0) {
      flushedAt = Date.now();
      if (buffered.length < FLUSH_POINTS && bufferedBytes < FLUSH_BYTES) {
        await scheduler.wait(FLUSH_AFTER_MS);
      }
      const batch = take();
      if (batch.length === 0) continue;
      const lostBefore = lost;
      lost = 0;
      if (!await post(fetcher, batchNumber++, batch, lostBefore)) lost += lostBefore + batch.length;
    }
  } finally {
    flushedAt = null;
  }
}

class AnalyticsEngineDataset {
  #fetcher;
  #dataset;

  constructor(env) {
    this.#fetcher = env.fetcher;
    this.#dataset = env.dataset;
  }

  writeDataPoint(event = {}) {
    const indexes = list(event.indexes, 'indexes', 1).map(bytes);
    // Unary plus, as WebIDL converts: unlike Number() it refuses a BigInt.
    const doubles = list(event.doubles, 'doubles', MAX_LISTED).map((value) => +value);
    const blobs = list(event.blobs, 'blobs', MAX_LISTED).map(bytes);
    if ((indexes[0]?.length ?? 0) > MAX_INDEX_BYTES) {
      throw new TypeError(`writeDataPoint(): Size of indexes[0] exceeds ${MAX_INDEX_BYTES} bytes).`);
    }
    const blobsBytes = blobs.reduce((sum, blob) => sum + (blob?.length ?? 0), 0);
    if (blobsBytes > MAX_BLOBS_BYTES) {
      throw new TypeError(`writeDataPoint(): Cumulative size of blobs exceeds ${MAX_BLOBS_BYTES} bytes).`);
    }
    if (buffered.length >= MAX_BUFFERED || bufferedBytes >= MAX_BUFFERED_BYTES) {
      lost++;
      return;
    }
    boot ??= crypto.randomUUID();
    const now = Date.now();
    const point = {
      dataset: this.#dataset,
      ts: now,
      index: base64(indexes[0] ?? null),
      doubles: doubles.map((double) => Number.isFinite(double) ? double : String(double)),
      blobs: blobs.map(base64),
    };
    const size = blobsBytes + 200;
    buffered.push({ bytes: size, point });
    bufferedBytes += size;
    if (flushedAt === null || now - flushedAt > FLUSH_STALLS_MS) {
      flushedAt = now;
      runtime.waitUntil(flush(this.#fetcher));
    }
  }
}

export default (env) => new AnalyticsEngineDataset(env);
