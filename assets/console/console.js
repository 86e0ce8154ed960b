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
let missed = false;

const soon = () => { if (!due) due = setTimeout(renew, 400); };

async function renew() {
  due = 0;
  // Nothing changes behind an open question; it is looked at again when that is closed.
  missed = Boolean(dialog && dialog.open);
  if (missed) return;
  for (const part of parts()) {
    const fresh = await fetched(location.href, `#${part.id}`).catch(() => null);
    if (!fresh) continue;
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, at) => { details.open = Boolean(open[at]); });
    const held = part.contains(document.activeElement) ? document.activeElement : null;
    const twin = held && twinOf(held, part, fresh);
    part.replaceWith(fresh);
    // Whoever is there with the keyboard stays where they are, or at the beginning where that is gone.
    if (held) (twin ?? document.getElementById("main")).focus({ preventScroll: true });
  }
  lookAgain();
}

// What is about to change without news of it is looked at until it has.
function lookAgain() {
  if (document.querySelector("[data-unsettled]")) setTimeout(soon, 1500);
}

// What stands in the new part where this stood in the old one.
function twinOf(held, part, fresh) {
  const said = (one) => ["href", "aria-labelledby", "aria-label"].map((of) => one.getAttribute(of)).find(Boolean);
  const name = (one) => said(one) ?? one.textContent;
  const alike = (root) => [...root.querySelectorAll(held.tagName)].filter((one) => name(one) === name(held));
  return alike(fresh)[alike(part).indexOf(held)];
}

function concerned(event) {
  const subjects = parts().map((part) => part.dataset.live);
  return subjects.some((subject) => !subject || event.data.includes(subject));
}

lookAgain();

if (parts().length && window.EventSource) {
  const source = new EventSource("/console/stream");
  const news = (event) => { if (concerned(event)) soon(); };
  for (const name of ["readiness", "topup", "transfer", "reset"]) source.addEventListener(name, news);
  source.onopen = () => {
    told.textContent = "This page keeps itself up to date.";
    // What changed after the page was made and before anybody listened.
    soon();
  };
  dialog?.addEventListener("close", () => { if (missed) soon(); });
  source.onerror = () => {
    told.textContent = source.readyState === EventSource.CLOSED
      ? "Updates have ended; load the page again." : "Updates are interrupted; trying again.";
  };
}
