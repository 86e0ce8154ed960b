// The page of the API, made from /openapi.json. It writes text only, never markup, and loads nothing from elsewhere.
"use strict";

let whole = {};

/** A new element with attributes and children; texts become text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** A text in which `code` stands between backquotes. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? element("code", {}, part) : part));
}

function paragraphs(text) {
  return (text ?? "").split(/\n\n+/).filter(Boolean).map((part) => element("p", {}, ...prose(part)));
}

/** What a reference leads to; words beside it go first. */
function resolved(thing) {
  if (!thing?.$ref) return thing ?? {};
  const found = thing.$ref.slice(2).split("/").reduce((place, part) => place?.[part.replaceAll("~1", "/")], whole);
  return { ...resolved(found), ...thing, $ref: undefined, title: thing.$ref.split("/").pop() };
}

/** A schema without the choice of null, and whether there was one. */
function withoutNull(schema) {
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices?.some((choice) => choice.type === "null")) {
    const others = choices.filter((choice) => choice.type !== "null");
    if (others.length === 1) return [{ ...schema, oneOf: undefined, anyOf: undefined, ...resolved(others[0]) }, true];
  }
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const types = schema.type.filter((type) => type !== "null");
    return [{ ...schema, type: types.length === 1 ? types[0] : types }, true];
  }
  return [schema, false];
}

/** An object's fields, those of its parts included. */
function fieldsOf(schema) {
  const parts = (schema.allOf ?? []).map((part) => fieldsOf(resolved(part)));
  const own = { properties: schema.properties ?? {}, required: schema.required ?? [] };
  return [...parts, own].reduce((all, part) => ({
    properties: { ...all.properties, ...part.properties },
    required: [...all.required, ...part.required],
  }));
}

function typeOf(schema, nullable) {
  let word = schema.type ?? (schema.allOf || schema.properties ? "object" : "any");
  if (word === "array") {
    const [items] = withoutNull(resolved(schema.items));
    word = `list of ${items.title ?? typeOf(items, false)}`;
  } else if (schema.title) {
    word = schema.title;
  } else if (schema.format && schema.format !== "int32" && schema.format !== "int64") {
    word = `${word}, ${schema.format}`;
  }
  return nullable ? `${word} or null` : word;
}

/** What a value must keep to, beside its type. */
function rulesOf(schema) {
  const rules = [];
  const say = (key, words) => { if (schema[key] !== undefined) rules.push(words(schema[key])); };
  if (schema.enum) {
    const shown = schema.enum.slice(0, 24);
    const more = schema.enum.length - shown.length;
    rules.push(`one of ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`);
  }
  say("minimum", (n) => `${n} or more`);
  say("maximum", (n) => `${n} at most`);
  say("multipleOf", (n) => `a multiple of ${n}`);
  say("minLength", (n) => (n > 0 ? `${n} character${n === 1 ? "" : "s"} or more` : null));
  say("maxLength", (n) => `${n} characters at most`);
  say("minItems", (n) => `${n} or more`);
  say("maxItems", (n) => `${n} at most`);
  say("maxProperties", (n) => `${n} pairs at most`);
  say("x-rule", (words) => words);
  if (!schema["x-rule"]) say("pattern", (text) => `fits ${text}`);
  say("default", (value) => `${JSON.stringify(value)} where left out`);
  return rules.filter(Boolean).join(" · ");
}

/** A value that a schema admits, for showing: with all its fields, or only with those that must be there. */
function exampleOf(raw, sparse = false, depth = 0) {
  const [schema, nullable] = withoutNull(resolved(raw));
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (depth > 5) return null;
  if (schema.type === "array") return [exampleOf(schema.items, sparse, depth + 1)];
  if (schema.allOf || schema.properties) {
    const { properties, required } = fieldsOf(schema);
    const entries = Object.entries(properties).filter(([name]) => !sparse || required.includes(name));
    return Object.fromEntries(entries.map(([name, field]) => [name, exampleOf(field, sparse, depth + 1)]));
  }
  if (schema.type === "object") return {};
  if (nullable) return null;
  if (schema.type === "integer" || schema.type === "number") return schema.minimum ?? 0;
  if (schema.type === "boolean") return true;
  if (schema.format === "date") return "2026-11-28";
  return "…";
}

/** The lines that describe fields; what is inside a field is made when it is opened. In what is asked those stand out
 * that are required, in an answer those that may be absent. */
function fieldList(entries, answered = false) {
  const list = element("ul", { class: "fields" });
  for (const { name, raw, needed, where } of entries) {
    const [schema, nullable] = withoutNull(resolved(raw));
    const rules = rulesOf(schema);
    const line = element("li", {},
      element("span", { class: "name" }, name),
      element("span", { class: "type" }, where ? `${typeOf(schema, nullable)}, in ${where}` : typeOf(schema, nullable)),
      needed && !answered ? element("span", { class: "need" }, "required") : "",
      !needed && answered ? element("span", { class: "need" }, "may be absent") : "",
      ...paragraphs(raw.description ?? schema.description),
      rules ? element("p", { class: "rule" }, rules) : "");
    const inside = schema.type === "array" ? withoutNull(resolved(schema.items))[0] : schema;
    if (inside.allOf || inside.properties) line.append(opened(inside, answered));
    list.append(line);
  }
  return list;
}

function opened(schema, answered) {
  const box = element("details", { class: "inner" }, element("summary", {}, "its fields"));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(schemaFields(schema, answered));
  });
  return box;
}

function schemaFields(schema, answered = false) {
  const { properties, required } = fieldsOf(schema);
  const first = ([name]) => (name === "id" ? 0 : required.includes(name) ? 1 : 2);
  const entries = Object.entries(properties).sort((a, b) => first(a) - first(b));
  return fieldList(entries.map(([name, raw]) => ({ name, raw, needed: required.includes(name) })), answered);
}

function sample(text, label) {
  const button = element("button", { type: "button", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return element("div", { class: "sample" }, element("pre", { tabindex: "0" }, text), button);
}

/** The call as a line for a shell. */
function curl(method, path, call) {
  const parts = ["curl -s"];
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  if (call.security?.length) parts.push('-H "Authorization: Bearer $KEY"');
  let url = path;
  for (const parameter of (call.parameters ?? []).map(resolved)) {
    const value = parameter.name === "Idempotency-Key" ? "pay-42" : exampleOf(parameter.schema);
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, value);
    if (parameter.in === "header" && (parameter.required || parameter.name === "Idempotency-Key")) {
      parts.push(`-H '${parameter.name}: ${value}'`);
    }
  }
  const body = call.requestBody?.content?.["application/json"];
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body.example ?? exampleOf(body.schema, true))}'`);
  parts.push(`${location.origin}${url}`);
  return parts.join(" \\\n  ");
}

function answer(status, described) {
  const box = element("details", { class: `answer ${Number(status) < 400 ? "good" : "bad"}` },
    element("summary", {}, element("b", {}, status), element("span", {}, ...prose(described.description ?? ""))));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    for (const [type, content] of Object.entries(described.content ?? {})) {
      box.append(element("p", { class: "rule" }, type));
      const [schema] = withoutNull(resolved(content.schema));
      if (schema.allOf || schema.properties) box.append(schemaFields(schema, true));
      if (type.endsWith("json")) {
        box.append(sample(JSON.stringify(content.example ?? exampleOf(content.schema), null, 2), "the example"));
      }
    }
    const headers = Object.entries(described.headers ?? {}).map(([name, header]) => [name, resolved(header)]);
    box.append(element("h4", {}, "Headers"), fieldList(headers.map(([name, header]) => (
      { name, raw: { ...resolved(header.schema), description: header.description }, needed: header.required })), true));
  });
  return box;
}

function inside(method, path, call) {
  const box = element("div", { class: "inside" }, ...paragraphs(call.description));
  const parameters = (call.parameters ?? []).map(resolved);
  if (parameters.length) {
    box.append(element("h3", {}, "Parameters"), fieldList(parameters.map((parameter) => (
      { name: parameter.name, raw: { ...parameter.schema, description: parameter.description },
        needed: parameter.required, where: parameter.in }))));
  }
  const body = call.requestBody?.content?.["application/json"];
  if (body) {
    box.append(element("h3", {}, call.requestBody.required ? "Body" : "Body, may be left out"));
    const [schema] = withoutNull(resolved(body.schema));
    box.append(schema.properties || schema.allOf ? schemaFields(schema) : element("p", {}, call.requestBody.description ?? "A JSON object."));
  }
  box.append(element("h3", {}, "Call it"), sample(curl(method, path, call), "the call"));
  box.append(element("h3", {}, "Answers"));
  for (const [status, described] of Object.entries(call.responses)) box.append(answer(status, resolved(described)));
  return box;
}

function callBox(method, path, call) {
  const scope = call.security?.[0] ? Object.values(call.security[0])[0]?.[0] : null;
  const box = element("details", { class: "call", id: call.operationId },
    element("summary", {},
      element("span", { class: `method ${method}` }, method),
      element("span", { class: "path" }, path),
      element("span", { class: "what" }, call.summary ?? ""),
      element("span", { class: "scope", title: "the scope a key needs" }, scope ?? "no key")));
  box.dataset.words = `${method} ${path} ${call.summary} ${call.operationId}`.toLowerCase();
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(inside(method, path, call));
  });
  return box;
}

function show() {
  const { info, tags, paths } = whole;
  document.getElementById("intro").append(...paragraphs(info.description));
  const byTag = new Map(tags.map((tag) => [tag.name, { tag, calls: [] }]));
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, call] of Object.entries(methods)) byTag.get(call.tags?.[0])?.calls.push([method, path, call]);
  }
  for (const { tag, calls } of byTag.values()) {
    if (!calls.length) continue;
    const boxes = calls.map(([method, path, call]) => callBox(method, path, call));
    document.getElementById("tags").append(element("section", { "aria-label": tag.name },
      element("h2", {}, tag.name), element("p", {}, tag.description ?? ""), ...boxes));
    const links = calls.map(([, , call]) => element("li", {}, element("a", { href: `#${call.operationId}` }, call.summary)));
    document.getElementById("links").append(element("h2", {}, tag.name), element("ul", {}, ...links));
  }
  document.getElementById("status").hidden = true;
}

/** Opens what the address names. */
function follow() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!named?.classList.contains("call")) return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus({ preventScroll: true });
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const section of document.querySelectorAll("#tags > section")) {
    let any = false;
    for (const box of section.querySelectorAll(".call")) {
      box.hidden = !words.every((word) => box.dataset.words.includes(word));
      if (!box.hidden) { any = true; found += 1; }
    }
    section.hidden = !any;
  }
  const status = document.getElementById("status");
  status.hidden = words.length === 0;
  status.textContent = found === 1 ? "1 call" : `${found} calls`;
}

async function start() {
  const contents = document.getElementById("contents");
  const wide = matchMedia("(min-width: 52.01rem)");
  const arrange = () => { contents.open = wide.matches; };
  wide.addEventListener("change", arrange);
  arrange();
  const search = document.getElementById("search");
  search.addEventListener("input", () => filter(search.value));
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      filter("");
    }
  });
  document.getElementById("links").addEventListener("click", (event) => {
    if (event.target.matches("a") && !wide.matches) contents.open = false;
  });
  addEventListener("hashchange", follow);
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    whole = await answer.json();
    show();
    follow();
  } catch (error) {
    document.getElementById("status").textContent = `The document could not be read: ${error.message}`;
  }
}

start();
