// The page: ask, watch the answer come, check its sources, say whether it was good.

import { Problem, events, forgetKey, keepKey, send } from "./stream.js";
import { byMarker, element, inContext, prose, source, turn } from "./render.js";

const at = (id) => document.getElementById(id);
const NOTICES = {
  answer: "The twin does not know: nothing it has read supports an answer.",
  write: "Written in the author's style. No source stands behind what it says.",
  small_talk: "Small talk: no source was read for this.",
  refuse: "The twin declined to answer this.",
};
const TROUBLES = {
  0: ["", "See that the service is running, then try again."],
  401: ["A key is needed", "Enter an API key that this service knows."],
  403: ["You may not ask here", ""],
  404: ["There is no such service here", "See that the address is right."],
  413: ["That is too long", "Ask in fewer words."],
  422: ["That cannot be asked", "Change the question or the options, then ask again."],
  429: ["Too many questions at once", ""],
  500: ["Something went wrong in the service", "Show the request id to whoever runs it."],
  502: ["The chat model failed", "Try again; if it stays so, show the request id to whoever runs the service."],
  503: ["The twin cannot answer right now", ""],
  504: ["The answer took too long", "Ask for less at once, or try again."],
};

let running = null; // the AbortController of the question under way
let answered = null; // the answer that stands on the page, with its question
let leftFrom = null; // the marker that a reader jumped from
let turns = []; // questions of this conversation that were answered before, with their answers
const REMEMBERED = 3; // turns that a follow-up question is sent along with
const LONGEST = 2000; // characters of each

function state(name, words = "") {
  document.body.dataset.state = name;
  at("status").textContent = words;
  const busy = name === "thinking" || name === "streaming";
  at("stop").hidden = !busy;
  at("answer").setAttribute("aria-busy", String(busy));
}

async function ask() {
  const query = at("query").value.trim();
  if (!query) return at("query").focus();
  running?.abort();
  const mine = (running = new AbortController());
  if (answered) turns.push({ query: answered.query, answer: answered.answer.replace(/\s*\[[\d,\s]+\]/g, "") }); // their numbers mean nothing later
  clear();
  at("asked").textContent = query;
  state("thinking", "Searching what was written…");
  const body = { query, stream: true, ...options() };
  if (turns.length) body.history = turns.slice(-REMEMBERED).flatMap(said);
  try {
    const response = await send("rag", { body, signal: mine.signal });
    const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (isStream) await follow(response, query, mine);
    else complete(await response.json(), query);
  } catch (error) {
    if (mine !== running) return; // another question took its place
    if (mine.signal.aborted) state("stopped", "Stopped.");
    else show(error instanceof Problem ? error : new Problem({ title: "The page could not read the answer", detail: String(error.message) }));
  } finally {
    if (mine === running) running = null;
  }
}

const said = ({ query, answer }) => [
  { role: "user", content: query.slice(0, LONGEST) },
  { role: "assistant", content: answer.slice(0, LONGEST) || "…" },
];

/** What the options say, as the service takes it; the last day of a period is a part of it. */
function options() {
  const chosen = {};
  const filters = {};
  if (at("author").value.trim()) chosen.author = at("author").value.trim();
  if (at("k").value) chosen.k = at("k").valueAsNumber;
  if (at("kind").value) filters.kind = at("kind").value;
  if (at("since").value) filters.since = at("since").value;
  if (at("until").value) filters.until = new Date(at("until").valueAsNumber + 86_400_000).toISOString().slice(0, 10);
  return Object.keys(filters).length ? { ...chosen, filters } : chosen;
}

async function follow(response, query, mine) {
  let text = "";
  let words = "Writing…";
  for await (const { name, data } of events(response)) {
    if (mine !== running) return;
    if (name === "citations") {
      words = `Writing from ${data.citations.length} ${data.citations.length === 1 ? "passage" : "passages"}…`;
      state("thinking", words);
    }
    if (name === "text") {
      text += data.text;
      at("result").hidden = false;
      at("answer").replaceChildren(...prose(text, new Map(), jump)); // a marker leads somewhere once it is verified
      if (document.body.dataset.state !== "streaming") state("streaming", words);
    }
    if (name === "error") throw new Problem(data, data.retry_after);
    if (name === "done") return complete(data, query);
  }
  throw new Problem({ title: "The answer broke off", detail: "The service ended before the answer was complete." });
}

function complete(answer, query) {
  const sources = byMarker(answer.citations);
  answered = { ...answer, query };
  at("result").hidden = false;
  at("answer").replaceChildren(...prose(answer.answer, sources, jump));
  at("notice").hidden = answer.grounded;
  at("notice").textContent = answer.grounded ? "" : (NOTICES[answer.route] ?? NOTICES.answer);
  at("cost").textContent = cost(answer);
  at("feedback").hidden = false;
  const items = [...sources].map(([number, citations]) => source(number, citations, back));
  at("sources").replaceChildren(...items);
  at("evidence").hidden = !items.length;
  at("anew").hidden = false;
  state(answer.grounded ? "done" : "unknown", answer.grounded ? `Answered from ${items.length} ${items.length === 1 ? "source" : "sources"}.` : "Answered without a source.");
  const quotes = [...sources.values()].flatMap((citations, which) => citations.map((citation, position) => [items[which], position, citation]));
  at("sources").setAttribute("aria-busy", "true");
  Promise.all(quotes.map((quote) => surround(...quote))).then(() => items.every((item) => item.isConnected) && at("sources").setAttribute("aria-busy", "false"));
}

function cost({ usage = {}, model, request_id, removed_markers }) {
  const told = [model];
  if (usage.retrieval_ms) told.push(`found in ${Math.round(usage.retrieval_ms)} ms`);
  if (usage.generation_ms) told.push(`written in ${Math.round(usage.generation_ms)} ms`);
  if (usage.prompt_tokens || usage.completion_tokens) told.push(`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`);
  if (removed_markers) told.push(`${removed_markers} unproven ${removed_markers === 1 ? "citation" : "citations"} removed`);
  return [...told, `request ${request_id}`].join(" · ");
}

async function surround(item, position, { document_id, revision, start, end }) {
  const where = new URLSearchParams({ document_id, revision, start, end });
  try {
    inContext(item, position, await (await send(`passage?${where}`)).json());
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const gone = error.status === 404 || error.status === 410;
    const words = gone ? "This source has changed or gone since the answer was made." : "What stands around this quote could not be loaded.";
    item.querySelectorAll("blockquote")[position].after(element("p", { class: "hint" }, words));
  }
}

function jump(number, from) {
  leftFrom = from;
  const item = at(`source-${number}`);
  if (!item) return;
  document.querySelector(".source.found")?.classList.remove("found");
  item.classList.add("found");
  item.scrollIntoView({ block: "nearest" });
  item.focus({ preventScroll: true });
}

function back() {
  const marker = leftFrom?.isConnected ? leftFrom : document.querySelector("button.marker");
  (marker ?? at("query")).focus();
}

async function vote(word, better = null) {
  if (!answered) return;
  const { request_id, query, answer, citations } = answered;
  const body = { request_id, vote: word, query, answer, document_ids: [...new Set(citations.map((one) => one.document_id))] };
  if (better) body.better_answer = better;
  try {
    await send("feedback", { body });
    if (answered?.request_id !== request_id) return;
    at("up").setAttribute("aria-pressed", String(word === "up"));
    at("down").setAttribute("aria-pressed", String(word === "down"));
    at("better-box").hidden = Boolean(better);
    at("thanks").textContent = better ? "Kept, with your better answer. Thank you." : "Kept. Thank you.";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    at("thanks").textContent = `Not kept: ${error.detail || error.title}`;
    if (error.status === 401) askForKey();
  }
}

function show(problem) {
  const [heading, advice] = TROUBLES[problem.status] ?? ["", "Try again."];
  const wait = problem.retryAfter ? `Try again in ${problem.retryAfter} s.` : "";
  const told = [problem.detail, ...problem.errors.map(({ at, problem: what }) => `${at}: ${what}`), advice, wait];
  at("problem").replaceChildren(
    element("h2", {}, heading || problem.title || "Something went wrong"),
    ...told.filter(Boolean).map((line) => element("p", {}, line)),
    problem.requestId ? element("p", { class: "hint" }, `Request id: ${problem.requestId}`) : "",
  );
  at("problem").hidden = false;
  state("error", "");
  if (problem.status === 401) askForKey();
  else at("problem").append(element("button", { type: "button", onclick: ask }, "Try again"));
}

function askForKey() {
  forgetKey();
  at("access").hidden = false;
  at("key").focus();
}

function clear() {
  answered = leftFrom = null;
  at("earlier").hidden = !turns.length;
  at("turns").replaceChildren(...turns.map(turn));
  for (const id of ["problem", "result", "evidence", "notice", "feedback", "better-box", "access"]) at(id).hidden = true;
  for (const id of ["asked", "answer", "sources", "problem", "cost", "thanks"]) at(id).replaceChildren();
  for (const id of ["up", "down"]) at(id).setAttribute("aria-pressed", "false");
  at("better").value = "";
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  at("query").focus();
  ask();
});
at("feedback").addEventListener("submit", (event) => {
  event.preventDefault();
  const better = at("better").value.trim();
  if (better) vote(at("up").getAttribute("aria-pressed") === "true" ? "up" : "down", better);
});
at("up").addEventListener("click", () => vote("up"));
at("down").addEventListener("click", () => vote("down"));
at("stop").addEventListener("click", () => {
  running?.abort();
  at("query").focus();
});
at("anew").addEventListener("click", () => {
  running?.abort();
  running = null;
  turns = [];
  clear();
  state("empty");
  at("anew").hidden = true;
  at("query").value = "";
  at("query").focus();
});
at("query").addEventListener("focus", () => answered && at("query").select()); // a follow-up takes the place of its question
at("since").addEventListener("change", () => (at("until").min = at("since").value));
at("options").addEventListener("invalid", () => (at("options").open = true), true); // what is wrong must be seen
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) {
    event.preventDefault();
    running.abort();
    at("query").focus();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === at("query")) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
