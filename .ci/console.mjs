// What an operator does with the console, from the demo's first second to the exported ledger, and what axe says.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(join(process.env.TOOLS, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pictures = "target/console";

const began = Date.now();
const say = (what) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)}s  ${what}`);

/** The demo, once it has said where it is and with which key. */
async function demo(data) {
  const child = spawn("sluicegate", ["demo", "--listen", "127.0.0.1:0", "--data-dir", data]);
  let said = "";
  const found = new Promise((resolve, reject) => {
    child.stdout.on("data", (part) => {
      said += part;
      const url = said.match(/^Sluicegate is listening on (\S+)$/m);
      const key = said.match(/^Its API key for this run is (\S+)$/m);
      if (url && key) resolve({ url: url[1], key: key[1] });
    });
    child.stderr.on("data", (part) => { said += part; });
    child.on("exit", (code) => reject(new Error(`the demo ended with ${code}: ${said}`)));
  });
  const stop = () => new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.removeAllListeners("exit");
    child.on("exit", resolve);
    child.kill("SIGINT");
    setTimeout(() => child.kill("SIGKILL"), 10_000).unref();
  });
  return { ...(await found.catch(async (error) => { await stop(); throw error; })), stop };
}

let seen = 0;
/** A picture of the page, and axe's judgement on it. */
async function look(page, name) {
  await page.screenshot({ path: `${pictures}/${String(++seen).padStart(2, "0")}-${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((n) => n.html).join("\n  ")}`);
  assert.deepEqual(told, [], `axe on ${name}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${name} is wider than the window by ${wide} pixels`);
}

/** Presses a button that asks first, and confirms. */
async function press(page, button, { reason, picture } = {}) {
  await page.getByRole("link", { name: button, exact: true }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  if (reason) await dialog.getByLabel("Why").fill(reason);
  if (picture) await look(page, picture);
  await dialog.getByRole("button").click();
  await page.locator(".done").filter({ hasText: /\S/ }).waitFor();
}

const menu = (page, name) => page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
const says = (page, words) => page.getByText(words).first().waitFor();

async function story(page, { url, key }) {
  await page.goto(`${url}/console`);
  await look(page, "sign-in");
  await page.getByLabel("API key").fill(key);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${url}/console`);
  say("signed in with the keyboard");

  await menu(page, "Transfers");
  const row = (amount) => page.getByRole("row").filter({ hasText: amount });
  await row("45.00 USD").getByRole("link").first().click();
  await page.getByRole("heading", { name: "Why is it not out?" }).waitFor();
  const stops = page.locator(".chain li.bad");
  await stops.filter({ hasText: "Transfers active" }).waitFor();
  const causes = await stops.locator("b").allInnerTexts();
  const third = page.url();
  await page.locator(".facts a").filter({ hasText: "acct_" }).click();
  await says(page, "What Stripe wants from the holder");
  await look(page, "its-account");
  await menu(page, "Overview");
  await page.getByRole("table").getByRole("link", { name: "Stripe has not enabled charges" }).waitFor();
  await look(page, "what-waits");
  await page.goto(third);
  await stops.filter({ hasText: "Transfers active" }).waitFor();
  await page.evaluate(() => { document.documentElement.dataset.stayed = "yes"; });
  await look(page, "third-transfer-waits");
  say(`the third transfer is stopped by: ${causes.join(", ")}`);

  await page.locator("h1 .state").filter({ hasText: "Paid out" }).waitFor({ timeout: 70_000 });
  assert.equal(await page.evaluate(() => document.documentElement.dataset.stayed), "yes", "without loading the page");
  await look(page, "third-transfer-went-out-live");
  say("it went out while the page was open");

  await menu(page, "Transfers");
  await row("7,500.00 USD").getByRole("link").first().click({ timeout: 30_000 });
  await stops.filter({ hasText: "Approval" }).waitFor();
  const large = page.url();
  await page.getByRole("link", { name: "Hold", exact: true }).click();
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await press(page, "Hold", { reason: "a question to payroll", picture: "hold" });
  await stops.filter({ hasText: "Hold" }).waitFor();
  await press(page, "Resume");
  say("the large one was held, and let go on");

  await menu(page, "Overview");
  await press(page, "Pause all releases", { reason: "month end", picture: "pause" });
  await says(page, "All releases are paused");
  await look(page, "paused");
  await page.goto(large);
  await press(page, "Approve");
  await stops.filter({ hasText: "Releases" }).waitFor();
  await look(page, "approved-but-paused");
  await menu(page, "Overview");
  await press(page, "Resume releases");
  await page.goto(large);
  await page.locator("h1 .state").filter({ hasText: "Paid out" }).waitFor({ timeout: 30_000 });
  await look(page, "large-went-out");
  say("paused, approved, resumed: the large one is out");

  await menu(page, "Dead letters");
  const odd = page.getByRole("link", { name: "evt_demo_odd", exact: true });
  for (let tries = 0; !(await odd.isVisible()); tries += 1) {
    assert.ok(tries < 60, "no dead letter appeared");
    await page.waitForTimeout(500);
    await page.reload();
  }
  await look(page, "dead-letters");
  await odd.click();
  await says(page, "Signature fits");
  await look(page, "dead-letter");
  await press(page, "Replay");
  await says(page, "Handed in again.");
  await page.locator("h1 .state").filter({ hasText: "Dead letter" }).waitFor();
  say("the dead letter was replayed");

  await menu(page, "Overview");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Export the ledger" }).click(),
  ]);
  assert.match(download.suggestedFilename(), /^sluicegate-ledger-test-\d{4}-\d\d-\d\d\.csv$/);
  const [names, ...lines] = readFileSync(await download.path(), "utf8").trimEnd().split("\r\n").map((l) => l.split(","));
  const of = (line, name) => line[names.indexOf(name)];
  assert.equal(lines.reduce((sum, line) => sum + Number(of(line, "amount_minor")), 0), 0, "it adds up to nothing");
  const out = lines.filter((l) => of(l, "transfer") === large.split("/").pop() && of(l, "place") === "released");
  assert.equal(out.reduce((sum, line) => sum + Number(of(line, "amount_minor")), 0), 750_000, "the large one is in it");
  say(`the ledger has ${lines.length} lines and adds up to nothing`);

  await menu(page, "Audit log");
  for (const action of ["Transfer held", "Transfer resumed", "Transfer approved", "Releases paused", "Releases resumed",
    "Event replayed"]) {
    await page.getByRole("cell", { name: action, exact: true }).first().waitFor();
  }
}

/** Every page, on a phone and on a desk, light and dark. */
async function walk(browser, cookies, url, paths) {
  for (const [size, width] of [["phone", 390], ["desk", 1280]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width, height: 844 }, colorScheme });
      await context.addCookies(cookies);
      const page = await context.newPage();
      for (const [name, path] of Object.entries(paths)) {
        const answer = await page.goto(url + path);
        assert.equal(answer.status(), 200, path);
        await look(page, `${name}-${size}-${colorScheme}`);
      }
      await context.close();
    }
  }
}

mkdirSync(pictures, { recursive: true });
const data = mkdtempSync(join(tmpdir(), "sluicegate-console-"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
let service;
try {
  service = await demo(data);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") wrong.push(message.text()); });
  page.on("request", (request) => { if (!request.url().startsWith(service.url)) wrong.push(request.url()); });
  try {
    await story(page, service);
  } catch (error) {
    await page.screenshot({ path: `${pictures}/failed.png`, fullPage: true }).catch(() => {});
    throw error;
  }
  const first = async (list) => {
    await page.goto(`${service.url}/console/${list}`);
    return page.locator("tbody th a").first().getAttribute("href");
  };
  const paths = {
    overview: "/console", transfers: "/console/transfers", transfer: await first("transfers"),
    topups: "/console/topups", topup: await first("topups"), accounts: "/console/accounts",
    account: await first("accounts"), events: "/console/events", event: await first("events"),
    "dead-letters": "/console/dead-letters", audit: "/console/audit", keys: "/console/keys",
    "new-key": "/console/keys/new", health: "/console/health",
  };
  await walk(browser, await context.cookies(), service.url, paths);
  assert.deepEqual(wrong, [], "errors in the browser, or requests to elsewhere");
  say(`axe found nothing on ${seen} views; their pictures are in ${pictures}`);
} finally {
  await browser.close();
  await service?.stop();
  rmSync(data, { recursive: true, force: true });
}
