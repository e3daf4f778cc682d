// From answers and sources to elements. Whatever came from outside becomes a text node, never markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** An answer as paragraphs and code; [n] of a known source becomes a button that calls jump(n). */
export function prose(text, sources, jump) {
  const blocks = [];
  text.split(/^```.*$/m).forEach((part, position) => {
    if (position % 2) blocks.push(element("pre", { tabindex: "0" }, part.replace(/^\n|\n$/g, "")));
    else for (const paragraph of part.split(/\n\s*\n/)) if (paragraph.trim()) blocks.push(inline(paragraph.trim(), sources, jump));
  });
  return blocks;
}

function inline(text, sources, jump) {
  const made = element("p");
  const joined = text.replace(/ +(?=\[\d)/g, "\u00a0"); // a marker stays with the words it proves
  for (const piece of joined.split(/(`[^`\n]+`|\[\d+(?:\s*,\s*\d+)*\])/)) {
    const numbers = /^\[([\d,\s]+)\]$/.exec(piece)?.[1].split(",").map(Number);
    if (numbers?.every((number) => sources.has(number))) made.append(...numbers.map((number) => marker(number, sources.get(number), jump)));
    else if (/^`[^`]+`$/.test(piece)) made.append(element("code", {}, piece.slice(1, -1)));
    else made.append(piece);
  }
  return made;
}

const marker = (number, citations, jump) =>
  element("button", { type: "button", class: "marker", "aria-label": `Source ${number}: ${citations[0].title}`, title: citations[0].title, onclick: (event) => jump(number, event.currentTarget) }, String(number));

/** Citations by their marker, in order: several quotes of one source stand together. */
export function byMarker(citations) {
  const sources = new Map();
  for (const citation of citations) sources.set(citation.marker, [...(sources.get(citation.marker) ?? []), citation]);
  return new Map([...sources].sort(([one], [other]) => one - other));
}

/** One entry of the list of sources: number, title, particulars, and every quote marked. */
export function source(number, citations, back) {
  const { title, url } = citations[0];
  const name = title || url;
  const safe = /^https?:\/\//i.test(url);
  const heading = safe ? element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, name) : name;
  return element(
    "li",
    { class: "source", id: `source-${number}`, tabindex: "-1", "aria-label": `Source ${number}` },
    element("span", { class: "number", "aria-hidden": "true" }, String(number)),
    element("h3", {}, heading),
    element("p", { class: "hint particulars" }, safe ? new URL(url).hostname : url),
    ...citations.map((citation) => element("blockquote", {}, element("mark", {}, citation.quote))),
    element("button", { type: "button", class: "back", onclick: back }, "Back to the answer"),
  );
}

/** A question that was answered before, and its answer to unfold. */
export const turn = ({ query, answer }) =>
  element("li", {}, element("details", { class: "turn" }, element("summary", {}, query), element("div", { class: "prose" }, ...prose(answer, new Map(), null))));

/** Put what surrounds a quote around it, and what is known of its document above it. */
export function inContext(item, position, passage) {
  const particulars = item.querySelector(".particulars");
  const told = [day(passage.published_at), (passage.heading_path ?? []).join(" › ")].filter(Boolean);
  if (position === 0 && told.length) particulars.textContent = [particulars.textContent, ...told].join(" · ");
  item.querySelectorAll("blockquote")[position].replaceChildren(
    ...[passage.before, element("mark", {}, passage.quote), passage.after].filter((part) => part !== ""),
  );
}

function day(moment) {
  const date = moment ? new Date(moment) : null;
  return date && !Number.isNaN(date.valueOf()) ? date.toLocaleDateString(undefined, { dateStyle: "long", timeZone: "UTC" }) : "";
}
