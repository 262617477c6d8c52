/** Requests to the server, and what its refusals mean. */

const TOKEN = "showtell-token";
const PATIENCE = 120_000; // ms; the server itself gives up earlier

/** A refusal that asking again cannot change: one line for people; `status` is of HTTP, or null. */
export class Refused extends Error {
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }
}

/** The server is busy or starting, and may answer later. */
export class TryLater extends Error {
  /**
   * `seconds` as the server said, or null where it said nothing; `reason` is one line for people
   * where it may be this request alone that never succeeds, else null.
   */
  constructor(message, seconds = null, reason = null) {
    super(message);
    Object.assign(this, { seconds, reason });
  }
}

/** No answer came: the server is not there, or it closed the connection. */
export class NoAnswer extends TryLater {
  constructor() {
    super("The server does not answer.");
  }
}

/** The picture did not arrive in the time that the server gives to uploads. */
export class TooSlow extends TryLater {
  constructor(seconds) {
    super("The upload is too slow.", seconds);
  }
}

/** A token is asked for; `refused` where one was sent. */
export class NeedsToken extends Error {
  constructor(refused) {
    super("the server asks for a token");
    this.refused = refused;
  }
}

const LATER = new Set([408, 425, 429, 502, 503, 504]);
const FULL = 429; // of this address's requests, whatever they ask for
const SLOW = 408;

/** The loaded models: [{name, decoder, encoder, attends, default, decoding}]. */
export async function listModels() {
  const answer = await ask("v1/models", {});
  return answer.models;
}

/**
 * What `model` says of one picture, a File that is read now: captions as the API gives them, the
 * best first: [{caption, confidence, log_prob, words, log_probs, attention}], with `isWithheld` where
 * the model is less sure than its settings want.
 */
export async function captionPicture(file, model, signal) {
  let data;
  try {
    data = await file.arrayBuffer(); // apart from fetch, whose failures would look the same
  } catch {
    throw new Refused("The file cannot be read any more: was it moved or changed?");
  }
  const form = new FormData();
  form.append("images", new Blob([data], { type: file.type }), "picture");
  form.append("model", model.name);
  form.append("decoding", JSON.stringify({ num_captions: captionsOf(model) }));
  if (model.attends) form.append("attention", "true");
  // Of one picture that failed the whole answer is a refusal, so there is a result here.
  const { results: [result] } = await ask("v1/captions", { method: "POST", body: form, signal });
  const { alternatives, ...best } = result;
  return [best, ...(alternatives ?? [])].map(({ caption, withheld, ...figures }) => {
    return { ...figures, caption: withheld ?? caption, isWithheld: withheld !== undefined };
  });
}

/** As many as the search finds anyway, so that the first equals the answer to a request for one. */
function captionsOf({ decoding }) {
  return decoding.method === "greedy" ? 1 : decoding.method === "sample" ? 4 : Math.min(5, decoding.beam_size);
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function ask(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = new Headers(token ? { Authorization: `Bearer ${token}` } : {});
  const signals = [AbortSignal.timeout(PATIENCE), options.signal].filter(Boolean);
  let response, body;
  try {
    response = await fetch(path, { ...options, headers, signal: AbortSignal.any(signals) });
    body = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new NoAnswer();
  }
  if (response.status === 401) throw new NeedsToken(Boolean(token));
  const answer = parsed(body);
  if (response.ok && answer) return answer;
  const { status } = response;
  const reason = sentence(answer ?? {}) || `The server answered ${status}.`;
  if (!LATER.has(status)) throw new Refused(reason, status);
  const wait = seconds(response.headers.get("Retry-After"));
  if (status === SLOW) throw new TooSlow(wait);
  throw new TryLater("The server is busy.", wait, status === FULL ? null : reason);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The seconds of a Retry-After; null for a date, which is rare: the queue's own pauses then apply. */
function seconds(value) {
  return /^\d+$/.test(value ?? "") ? Number(value) : null;
}

/** Problem details (RFC 9457) as a sentence. */
function sentence({ detail, title }) {
  const text = (detail || title || "").replace(/^picture: /, ""); // the page tells the name itself
  return text && text[0].toUpperCase() + text.slice(1) + (/[.!?)]$/.test(text) ? "" : ".");
}
