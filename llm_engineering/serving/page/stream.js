// How the page talks to the service: one question in, server-sent events out, problems as one kind of error.

/** What went wrong, in the words of problem+json where the service said it. */
export class Problem extends Error {
  constructor({ status = 0, title = "", detail = "", errors = [], request_id = "" } = {}, retryAfter = null) {
    super(title);
    Object.assign(this, { status, title, detail, errors, requestId: request_id, retryAfter });
  }
}

const KEY = "twin-api-key";
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Send a request below the page's own address; anything but success is a Problem. */
export async function send(path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) {
    headers["Content-Type"] = "application/json";
    if (body.stream) headers.Accept = "text/event-stream";
  }
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The service cannot be reached" });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  const requestId = response.headers.get("X-Request-ID") ?? "";
  let told = {};
  try {
    told = await response.json();
  } catch {
    told = {}; // a proxy's page, not the service's words
  }
  return new Problem({ title: `The service answered ${response.status}`, request_id: requestId, ...told, status: response.status }, retryAfter);
}

/** The events of a server-sent stream as {name, data}; a stream that is cut is a Problem. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(broken);
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function broken(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem({ title: "The answer broke off", detail: "The connection was lost before the answer was complete." });
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  if (!data.length || data[0] === "[DONE]") return null;
  return { name, data: JSON.parse(data.join("\n")) };
}
