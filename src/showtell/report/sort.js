"use strict";
// Tables whose headings say in which order they sort first get a button in each heading.
// Cells are sorted by data-value; those without one come last. Headings of rows sort by their text.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.querySelectorAll("thead th[data-first]")];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const first = heading.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      for (const each of headings) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
    });
  });
}

function compare(a, b, sign) {
  if (a.tagName === "TH") return sign * a.textContent.localeCompare(b.textContent);
  if (!("value" in a.dataset) || !("value" in b.dataset)) {
    return ("value" in b.dataset) - ("value" in a.dataset);
  }
  return sign * (a.dataset.value - b.dataset.value);
}
