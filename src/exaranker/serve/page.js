"use strict";
// Texts of passages and models only ever become text nodes: whatever they contain is shown, never run.

const byId = (id) => document.getElementById(id);
const status = byId("status");
let key = "";
let asked = 0; // questions so far: an answer to an earlier one is not shown any more

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  byId("unlock").hidden = response.status !== 401;
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error?.message ?? `the server answered ${response.status}`);
}

async function rank(query) {
  const mine = ++asked;
  say("Ranking …");
  try {
    const { results } = await (await post("search", { query })).json();
    if (mine === asked) show(query, results);
  } catch (error) {
    if (mine === asked) say(error.message, true);
  }
}

function show(query, results) {
  document.querySelector("main").hidden = results.length === 0;
  say(results.length ? `${results.length} passages, the best by BM25` : "No passage shares a word with this question.");
  const first = [...results].sort((a, b) => a.bm25_rank - b.bm25_rank);
  byId("first").replaceChildren(...first.map(firstItem));
  byId("ours").replaceChildren(...results.map((result) => oursItem(query, result)));
}

function firstItem(result) {
  const item = element("li");
  item.append(head(`${result.bm25_rank}`, result.doc_id, result.bm25_score.toFixed(2)), element("div", "text", result.text));
  return item;
}

function oursItem(query, result) {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  const line = head(`${result.rank}`, result.doc_id, `${result.score >= 0 ? "+" : "−"}${Math.abs(result.score).toFixed(2)}`);
  line.append(meter(result.probability), movement(result.bm25_rank - result.rank));
  const text = element("div", "text", result.text);
  button.append(line, text);
  const why = element("div", "why");
  why.hidden = true;
  button.addEventListener("click", () => toggle(query, result, { button, why, text }));
  item.append(button, why);
  return item;
}

function head(rank, id, score) {
  const line = element("div", "head");
  line.append(element("span", "", rank), element("span", "id", id), element("span", "", score));
  return line;
}

function meter(probability) {
  const made = element("meter");
  made.value = probability;
  made.title = `probability of relevance ${probability.toFixed(3)}`;
  return made;
}

function movement(places) {
  if (places > 0) return element("span", "up", `▲ ${places}`);
  if (places < 0) return element("span", "down", `▼ ${-places}`);
  return element("span", "", "=");
}

function toggle(query, result, parts) {
  const open = parts.why.hidden;
  parts.why.hidden = !open;
  parts.button.setAttribute("aria-expanded", String(open));
  if (!open || parts.why.childElementCount) return;
  explain(query, result, parts.why);
  shade(query, result, parts.text);
}

async function explain(query, result, why) {
  const label = element("p", "label");
  const text = element("p", "writing");
  why.append(label, text);
  try {
    const response = await post("explain", { query, document: result.text, score: result.score });
    for await (const { event, data } of events(response.body)) {
      if (event === "label") label.textContent = data.label;
      if (event === "piece") text.textContent += data.text;
      if (event === "done") text.textContent = data.explanation || "(no explanation)";
      if (event === "error") throw new Error(data.message);
    }
  } catch (error) {
    why.replaceChildren(); // a second click asks again
    why.hidden = true;
    say(error.message, true);
  }
  text.classList.remove("writing");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    waiting += part.value.replaceAll("\r\n", "\n");
    for (let end = waiting.indexOf("\n\n"); end >= 0; end = waiting.indexOf("\n\n")) {
      const fields = Object.fromEntries(waiting.slice(0, end).split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      waiting = waiting.slice(end + 2);
      if (fields.event) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

async function shade(query, result, text) {
  try {
    const { sentences } = await (await post("why", { query, document: result.text })).json();
    const most = Math.max(...sentences.map((sentence) => Math.abs(sentence.contribution)), 1e-9);
    const characters = [...result.text]; // as the server counts them
    const parts = [];
    let end = 0;
    for (const sentence of sentences) {
      const depth = Math.round((4 * Math.abs(sentence.contribution)) / most);
      const side = sentence.contribution >= 0 ? "for" : "against";
      const mark = element("span", `${side} s${depth}`, characters.slice(sentence.start, sentence.stop).join(""));
      mark.title = `log-odds ${sentence.contribution >= 0 ? "+" : "−"}${Math.abs(sentence.contribution).toFixed(2)}`;
      parts.push(characters.slice(end, sentence.start).join(""), mark);
      end = sentence.stop;
    }
    text.replaceChildren(...parts, characters.slice(end).join(""));
  } catch (error) {
    say(error.message, true);
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = byId("query").value.trim();
  if (query) rank(query);
});

byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value;
  byId("ask").requestSubmit();
});
