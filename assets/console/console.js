// What the console does beyond its pages: it keeps them up to date, and asks for confirmation in a dialog. Without
// it everything works, by loading pages.
"use strict";

const dialog = document.getElementById("dialog");

// A button whose page only asks for confirmation: the same form, here.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-dialog]");
  const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
  if (link && plain && dialog) {
    event.preventDefault();
    const form = await fetched(link.href, "form[data-confirm]").catch(() => null);
    if (!form) return location.assign(link.href);
    dialog.replaceChildren(form);
    dialog.showModal();
  }
  if (event.target.closest("dialog [data-close]")) {
    event.preventDefault();
    dialog.close();
  }
});

// One click is one order.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
});

window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
});

// What is shown once can be copied.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).value);
    button.textContent = "Copied";
  });
}

async function fetched(url, selector) {
  const answer = await fetch(url, { headers: { "x-sluicegate-live": "1" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.querySelector(selector);
  return found && document.adoptNode(found);
}

// The parts of the page that follow what happens: all of them, or those of one subject.
const parts = () => [...document.querySelectorAll("[data-live]")];
const told = document.getElementById("live");
let due = 0;

async function renew() {
  due = 0;
  for (const part of parts()) {
    // Nothing is taken away from under somebody's hands.
    if (part.contains(document.activeElement) && document.activeElement !== document.body) continue;
    const fresh = await fetched(location.href, `#${part.id}`).catch(() => null);
    if (!fresh) continue;
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, at) => { details.open = Boolean(open[at]); });
    part.replaceWith(fresh);
  }
}

function concerned(event) {
  const subjects = parts().map((part) => part.dataset.live);
  return subjects.some((subject) => !subject || event.data.includes(subject));
}

if (parts().length && window.EventSource) {
  const source = new EventSource("/console/stream");
  const news = (event) => {
    if (!due && concerned(event)) due = setTimeout(renew, 400);
  };
  for (const name of ["readiness", "topup", "transfer", "reset"]) source.addEventListener(name, news);
  source.onopen = () => { told.textContent = "This page keeps itself up to date."; };
  source.onerror = () => {
    told.textContent = source.readyState === EventSource.CLOSED
      ? "Updates have ended; load the page again." : "Updates are interrupted; trying again.";
  };
}
