// Review of training data: one page of samples at a time, one of them current, four keys.

import { element } from "./render.js";
import { Problem, forgetKey, keepKey, send } from "./stream.js";

const at = (id) => document.getElementById(id);
const FILTERS = ["dataset", "verdict", "style", "split", "text"];
const VERDICTS = { keep: "kept", edit: "edited", refuse: "refused" };
const LIMIT = 10;

let samples = []; // the page of samples that is shown
let current = 0; // place of the current one
let dataset = null;
let starts = [0]; // where this page and those before it begin
let following = null; // where the next page begins
let busy = false; // a decision is under way
let asked = 0; // number of the latest request for a page

const say = (words) => (at("status").textContent = words);
const state = (name) => (document.body.dataset.state = name);

function wanted(after) {
  const query = new URLSearchParams({ after, limit: LIMIT });
  for (const name of FILTERS) if (at(name).value.trim()) query.set(name, at(name).value.trim());
  return query;
}

/** Filters are part of the page's address: loading it again, or sending it to somebody, shows the same. */
function remember() {
  const query = wanted(0);
  query.delete("after");
  query.delete("limit");
  if (!at("verdict").value) query.set("verdict", "any");
  history.replaceState(null, "", `?${query}`);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === "dataset") at("dataset").replaceChildren(element("option", { value }, value));
    if (FILTERS.includes(name)) at(name).value = name === "verdict" && value === "any" ? "" : value;
  }
}

async function load({ last = false } = {}) {
  const number = ++asked;
  state("loading");
  try {
    const page = await (await send(`samples?${wanted(starts.at(-1))}`)).json();
    if (number === asked) show(page, last);
  } catch (error) {
    if (number !== asked) return;
    if (error.status !== 404 || !at("dataset").value) return fail(error, start);
    at("dataset").replaceChildren(); // that one is not there any more: the newest then
    return start();
  }
}

function show(page, last) {
  at("problem").hidden = at("access").hidden = true;
  at("nothing").hidden = page.dataset !== null;
  at("filters").hidden = page.dataset === null;
  dataset = page.dataset;
  samples = page.samples;
  following = page.next;
  current = last ? Math.max(0, samples.length - 1) : 0;
  at("dataset-box").hidden = page.datasets.length < 2;
  at("dataset").replaceChildren(...page.datasets.map((name) => element("option", { value: name }, name)));
  at("dataset").value = dataset ?? "";
  at("pages").hidden = starts.length < 2 && following === null;
  at("back").disabled = starts.length < 2;
  at("on").disabled = following === null;
  at("actions").hidden = !samples.length;
  at("samples").replaceChildren(...samples.map(card));
  count(page.progress);
  const gone = page.withheld ? `${page.withheld} of withdrawn documents are not shown; the next build drops them.` : "";
  if (!dataset) say("");
  else if (samples.length) say(gone);
  else say([starts.length > 1 || following !== null ? "Nothing on this page." : nothing(page.progress), gone].filter(Boolean).join(" "));
  state(dataset ? "ready" : "empty");
  if (samples.length) mark(current);
  if (!last) window.scrollTo({ top: 0 });
}

function nothing({ total, decided }) {
  const left = total - Object.values(decided).reduce((sum, each) => sum + each, 0);
  const narrowed = ["style", "split", "text"].some((name) => at(name).value.trim());
  if (at("verdict").value === "undecided" && !left && !narrowed) return `All ${total} decided. The next build follows: poe run-dataset-pipeline`;
  return "No sample is like that.";
}

function count({ total, decided }) {
  const done = Object.values(decided).reduce((sum, each) => sum + each, 0);
  const kinds = Object.entries(VERDICTS).flatMap(([verdict, word]) => (decided[verdict] ? [`${decided[verdict].toLocaleString()} ${word}`] : []));
  at("progress").hidden = !total;
  at("bar").max = total || 1;
  at("bar").value = done;
  at("short").textContent = `${done.toLocaleString()} / ${total.toLocaleString()}`;
  at("count").textContent = [`${done.toLocaleString()} of ${total.toLocaleString()} decided`, kinds.join(", ")].filter(Boolean).join(" · ");
}

function card(sample, place) {
  const { title, url, published_at, heading_path, kind } = sample;
  const name = title || url;
  const link = /^https?:\/\//i.test(url) ? element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, name) : name;
  const path = heading_path.filter((heading, level) => level || heading !== title);
  const told = [kind, day(published_at), ...(path.length ? [path.join(" › ")] : [])].filter(Boolean).join(" · ");
  const writer = { rules: "instruction by rules", person: "instruction by a person" }[sample.written_by] ?? `instruction by ${sample.written_by}`;
  const made = element(
    "li",
    { class: `sample${sample.verdict === "refuse" ? " refused" : ""}`, id: `sample-${place}`, tabindex: "-1" },
    element(
      "p",
      { class: "marks" },
      element("span", { class: "mark" }, sample.style),
      element("span", { class: "mark" }, sample.split),
      element("span", {}, writer),
      sample.origin === "rephrased" ? element("span", { class: "mark caution" }, "answer rephrased by a model") : "",
      sample.masked ? element("span", { class: "mark caution" }, `${sample.masked} masked`) : "",
      sample.verdict ? element("span", { class: `mark verdict ${sample.verdict}` }, VERDICTS[sample.verdict]) : "",
    ),
    element("h2", { class: "instruction" }, sample.instruction),
    sample.original ? element("p", { class: "was" }, `Was: ${sample.original}`) : "",
    element("p", { class: "where" }, `${sample.author} in `, link, ` · ${told}`),
    element("div", { class: "text" }, sample.answer),
  );
  made.addEventListener("click", () => place !== current && mark(place));
  return made;
}

function day(moment) {
  const date = moment ? new Date(moment) : null;
  return date && !Number.isNaN(date.valueOf()) ? date.toLocaleDateString(undefined, { dateStyle: "long", timeZone: "UTC" }) : "";
}

/** Make a sample the current one and bring it into sight. */
function mark(place) {
  at(`sample-${current}`)?.removeAttribute("aria-current");
  current = place;
  const chosen = at(`sample-${place}`);
  chosen.setAttribute("aria-current", "true");
  if (!at("filters").contains(document.activeElement)) chosen.focus({ preventScroll: true });
  chosen.scrollIntoView({ block: "start" });
}

function redraw(place) {
  at(`sample-${place}`).replaceWith(card(samples[place], place));
  if (place === current) mark(place);
}

function next() {
  if (current + 1 < samples.length) mark(current + 1);
  else if (following !== null) forward();
  else say("That was the last one.");
}

function previous() {
  if (current > 0) mark(current - 1);
  else if (starts.length > 1) backward({ last: true });
}

function forward() {
  starts.push(following);
  return load();
}

function backward(options) {
  starts.pop();
  return load(options);
}

async function decide(verdict, { place = current, instruction } = {}) {
  if (busy || !samples.length || document.body.dataset.state !== "ready") return;
  busy = true;
  try {
    const body = { dataset, sample_id: samples[place].id, verdict, instruction };
    const { sample, progress } = await (await send("decisions", { body })).json();
    samples[place] = sample;
    count(progress);
    say(`Sample ${place + 1} of this page: ${VERDICTS[sample.verdict]}.`);
    redraw(place);
    if (place === current) next();
  } catch (error) {
    fail(error, () => load());
  } finally {
    busy = false;
  }
}

/** Put a field in the place of the current sample's instruction. */
function edit() {
  const chosen = at(`sample-${current}`);
  const place = current;
  if (busy || !chosen || chosen.querySelector("form")) return;
  const field = element("textarea", { id: "instruction", rows: "3", maxlength: "4000", required: "" });
  field.value = samples[place].instruction;
  const form = element(
    "form",
    {},
    element("label", { for: "instruction" }, "Instruction"),
    field,
    element(
      "div",
      { class: "row" },
      element("button", { class: "primary", type: "submit" }, "Save"),
      element("button", { type: "button", onclick: () => redraw(place) }, "Cancel"),
      element("p", { class: "hint" }, element("kbd", {}, "Ctrl"), " ", element("kbd", {}, "Enter"), " saves, ", element("kbd", {}, "Esc"), " cancels"),
    ),
  );
  const save = () => {
    if (/[\p{L}\p{N}]/u.test(field.value)) decide("edit", { place, instruction: field.value.trim() });
    else field.focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") redraw(place);
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  chosen.querySelector(".was")?.remove();
  chosen.querySelector(".instruction").replaceWith(form);
  field.focus();
}

function fail(error, retry) {
  const problem = error instanceof Problem ? error : new Problem({ title: "The page could not read the answer", detail: String(error.message) });
  state("error");
  say("");
  if (problem.status === 401) {
    forgetKey();
    at("access").hidden = false;
    return at("key").focus();
  }
  const again = element("button", { type: "button", onclick: retry }, "Load anew");
  const words = [problem.title, problem.detail, problem.requestId && `Request id: ${problem.requestId}`].filter(Boolean).join(" · ");
  at("problem").replaceChildren(element("p", {}, words), again);
  at("problem").hidden = false;
  again.focus();
}

function start() {
  starts = [0];
  return load();
}

const ACTIONS = { keep: () => decide("keep"), edit, refuse: () => decide("refuse"), next, previous };
const KEYS = { k: "keep", e: "edit", r: "refuse", j: "next", ArrowRight: "next", ArrowLeft: "previous" };
for (const [id, action] of Object.entries(ACTIONS)) at(id).addEventListener("click", action);
at("back").addEventListener("click", () => backward());
at("on").addEventListener("click", forward);

function narrow() {
  remember();
  return start();
}

let typing = 0;
at("filters").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(narrow, event.target.id === "text" ? 300 : 0);
});
at("filters").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(typing);
  await narrow();
  at(`sample-${current}`)?.focus();
});
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  start();
});
document.addEventListener("keydown", (event) => {
  const inField = event.target.matches("input, textarea, select");
  if (inField || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !(event.key in KEYS)) return;
  if (!samples.length || document.body.dataset.state !== "ready") return;
  event.preventDefault();
  ACTIONS[KEYS[event.key]]();
});
recall();
start();
