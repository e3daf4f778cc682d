// Blind comparison: two texts, one question, three keys.

import { Problem, forgetKey, keepKey, send } from "./stream.js";

const at = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("button[data-choice]")];
const KEYS = { 1: "first", 2: "second", 0: "neither" };

let shown = null; // the pair on the page
let busy = false; // a request is under way

function state(name, words) {
  document.body.dataset.state = name;
  at("status").textContent = words;
}

function show({ pair, decided, total, seen }) {
  shown = pair;
  at("problem").hidden = at("access").hidden = true;
  at("pair").hidden = !pair;
  if (!total && !seen) return state("empty", "There is nothing to compare yet: evaluate a trained twin first.");
  const more = seen ? ` ${seen} more are about writings of which you have seen the author's text: they are for others.` : "";
  if (!pair) return state("done", `All ${total} done. Thank you. The evaluation report has the result.${more}`);
  at("question").textContent = `Which of the two did ${pair.author} write?`;
  at("task").textContent = pair.task;
  at("first").textContent = pair.first;
  at("second").textContent = pair.second;
  state("asking", `${decided + 1} of ${total}`);
  window.scrollTo({ top: 0 });
  at("question").focus({ preventScroll: true }); // a reader by keyboard or screen reader starts at the new pair
}

async function request(path, options) {
  if (busy) return;
  busy = true;
  for (const button of buttons) button.disabled = true;
  try {
    show(await (await send(path, options)).json());
  } catch (error) {
    fail(error instanceof Problem ? error : new Problem({ title: "The page could not read the answer", detail: String(error.message) }));
  } finally {
    busy = false;
    for (const button of buttons) button.disabled = false;
  }
}

function fail(problem) {
  state("error", "");
  if (problem.status === 401) {
    forgetKey();
    at("access").hidden = false;
    return at("key").focus();
  }
  const again = document.createElement("button");
  Object.assign(again, { type: "button", textContent: "Go on" });
  again.addEventListener("click", next);
  const words = document.createElement("p");
  words.textContent = [problem.title, problem.detail, problem.requestId && `Request id: ${problem.requestId}`].filter(Boolean).join(" · ");
  at("problem").replaceChildren(words, again);
  at("problem").hidden = false;
  again.focus();
}

const next = () => request("ab/next");

function choose(chosen) {
  if (shown) request("ab/choices", { body: { pair_id: shown.id, chosen } });
}

for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choice));
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  next();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !(event.key in KEYS)) return;
  event.preventDefault();
  choose(KEYS[event.key]);
});
next();
