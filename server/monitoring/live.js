"use strict";
// Keeps the page up to date. Whatever comes from the state is put in as text. The report is a page of our own, escaped
// as it was made; a script in it would not run, as the page's policy has the hash of this one alone.
const PAUSE = 2000, PATIENCE = 10000;
const find = (id) => document.getElementById(id);
let version = "", news = new Date();

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fit(parent, count, tag) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(document.createElement(tag));
  return [...parent.children];
}

function show(state) {
  put(find("live-progress"), state.progress);
  put(find("live-ages"), state.ages);
  put(find("live-lost"), state.lost);
  fit(find("live-nodes").tBodies[0], state.nodes.length, "tr").forEach((row, n) => {
    fit(row, state.nodes[n].length, "td").forEach((cell, k) => put(cell, state.nodes[n][k]));
  });
  fit(find("live-refusals"), state.refusals.length, "li").forEach((line, n) => put(line, state.refusals[n]));
}

function ask(name) {
  return fetch(name, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) }).then((answer) => {
    if (!answer.ok) throw new Error(answer.statusText);
    return answer;
  });
}

function nameOf(element) {
  return [element.tagName, element.closest("details")?.id, element.getAttribute("aria-labelledby")].join(" ");
}

// Everything in the report that a reader may have changed: what is open, scrolled sideways, or in focus.
function handles(report) {
  return [...report.querySelectorAll("details, summary, [tabindex]")].filter((each) => each.tagName !== "MAIN");
}

function replace(report, parts) {
  const before = new Map(handles(report).map((each) => [nameOf(each), each]));
  const focused = report.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  const kept = new Map([...before].map(([name, each]) => [name, { open: each.open, left: each.scrollLeft }]));
  const place = [window.scrollX, window.scrollY];
  report.replaceChildren(...parts);
  for (const each of handles(report)) {
    const was = kept.get(nameOf(each));
    if (each.tagName === "DETAILS" && was) each.open = was.open;
    if (was) each.scrollLeft = was.left;
    if (nameOf(each) === focused) each.focus({ preventScroll: true });
  }
  window.scrollTo(...place);
}

async function showReport(next) {
  const text = await (await ask("report.html")).text();
  const page = new DOMParser().parseFromString(text, "text/html");
  replace(find("live-report"), [...page.querySelectorAll("header dl, main > *")]);
  version = next;
}

async function refresh() {
  try {
    const state = await (await ask("state.json")).json();
    news = new Date();
    show(state);
    if (state.report && state.report !== version) await showReport(state.report).catch(() => {});
  } catch {
    put(find("live-lost"), `No news since ${news.toLocaleTimeString()}: this page is no longer served.`);
  }
  setTimeout(refresh, PAUSE);
}

refresh();
