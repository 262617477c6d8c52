"use strict";

const data = JSON.parse(document.querySelector("#data").textContent);
const part = (id) => document.getElementById(id);
const stored = `showtell-rating-${data.sheet}`;
const state = { rater: "", answers: {}, notes: {}, place: 0, ...load() };

function load() {
  try {
    return JSON.parse(localStorage.getItem(stored)) ?? {};
  } catch {
    return {};
  }
}

function save() {
  try {
    localStorage.setItem(stored, JSON.stringify(state));
  } catch {
    say("This browser keeps no answers: download them before you close the page.");
  }
}

function say(text) {
  part("message").textContent = text;
}

function numAnswered() {
  return data.items.filter((item) => state.answers[item.id]).length;
}

function show() {
  const item = data.items[state.place];
  part("picture").src = data.sources[item.picture];
  part("picture").alt = `Picture ${state.place + 1}, which the caption is about`;
  part("captions").replaceChildren(...item.captions.map((caption, number) => {
    const line = document.createElement("li");
    line.dir = "auto";
    if (item.captions.length > 1) {
      const letter = document.createElement("b");
      letter.textContent = "AB"[number];
      line.append(letter);
    }
    line.append(caption);
    return line;
  }));
  for (const input of document.querySelectorAll("[name=answer]")) {
    input.checked = input.value === state.answers[item.id];
  }
  part("note").value = state.notes[item.id] ?? "";
  part("back").disabled = state.place === 0;
  part("next").disabled = state.place === data.items.length - 1;
  count();
}

function count() {
  const done = numAnswered();
  part("place").textContent = `${state.place + 1} of ${data.items.length}, ${done} answered`;
  part("progress").max = data.items.length;
  part("progress").value = done;
}

function move(place) {
  state.place = Math.min(Math.max(place, 0), data.items.length - 1);
  save();
  show();
}

function answer(code) {
  state.answers[data.items[state.place].id] = code;
  save();
  show();
  if (numAnswered() === data.items.length) {
    say("All are answered. Download the file and send it back.");
  }
}

function download(name, type, text) {
  if (!state.rater.trim()) {
    say("Please write your name or initials first.");
    part("rater").focus();
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  const open = data.items.length - numAnswered();
  say(open ? `Downloaded ${name}; ${open} are not answered yet.` : `Downloaded ${name}.`);
}

function fileName(suffix) {
  const rater = state.rater.trim().replace(/[^\p{L}\p{N}]+/gu, "-");
  return `answers-${data.sheet}-${rater}.${suffix}`;
}

function cell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

function rows() {
  return data.items.map((item) => ({
    sheet: data.sheet,
    rater: state.rater.trim(),
    item: item.id,
    answer: state.answers[item.id] ?? "",
    note: state.notes[item.id] ?? "",
  }));
}

part("form").addEventListener("submit", (event) => event.preventDefault());
part("choices").addEventListener("change", (event) => answer(event.target.value));
part("note").addEventListener("input", (event) => {
  state.notes[data.items[state.place].id] = event.target.value;
  save();
});
part("rater").value = state.rater;
part("rater").addEventListener("input", (event) => {
  state.rater = event.target.value;
  save();
});
part("back").addEventListener("click", () => move(state.place - 1));
part("next").addEventListener("click", () => move(state.place + 1));
part("open").addEventListener("click", () => {
  const place = data.items.findIndex((item) => !state.answers[item.id]);
  if (place < 0) say("All are answered.");
  else move(place);
});
part("again").addEventListener("click", () => {
  if (!confirm("Delete all of your answers on this page?")) return;
  Object.assign(state, { answers: {}, notes: {} });
  move(0);
  say("Your answers are deleted.");
});
part("csv").addEventListener("click", () => {
  const names = ["sheet", "rater", "item", "answer", "note"];
  const lines = rows().map((row) => names.map((name) => cell(row[name])).join(","));
  download(fileName("csv"), "text/csv", `\ufeff${[names.join(","), ...lines].join("\r\n")}\r\n`);
});
part("json").addEventListener("click", () => {
  download(fileName("json"), "application/json", `${JSON.stringify(rows(), null, 1)}\n`);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "text") return;
  const grade = data.grades.find((one) => one.key === event.key.toLowerCase());
  const step = { p: -1, n: 1 }[event.key.toLowerCase()]; // arrows belong to the radio buttons
  if (grade) {
    const from = state.place;
    answer(grade.code);
    if (from + 1 < data.items.length) setTimeout(() => state.place === from && move(from + 1), 250);
  } else if (step) {
    move(state.place + step);
  }
});
show();
