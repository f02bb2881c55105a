// Tests the portal of the example server in Chromium: every page, with and without JavaScript, by keyboard, and with
// the accessibility checks of axe. It writes screenshots of each page to out/, in light and dark mode, for desktop
// and phone; keys-all-desk-light.png and new-phone-dark.png are those of the README.
//
//     cargo build --example server && cargo build -p tower-api-key-cli
//     cd tests/browser && npm ci && npm test
//
// CHROMIUM sets another browser than the system's, SERVER another program than target/debug/examples/server, and CLI
// another one than target/debug/tower-api-key.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const here = import.meta.dirname;
const out = join(here, "out");
const axe = readFileSync(join(here, "node_modules/axe-core/axe.min.js"), "utf8");

// -- the server and the browser

function program(named, path, build) {
  const target = process.env.CARGO_TARGET_DIR ?? join(here, "../../target");
  const program = named ?? join(target, "debug", path);
  assert(existsSync(program), `${program} is not there: run \`cargo build ${build}\``);
  return program;
}

function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {
      // Tries the next one.
    }
  }
  throw new Error("there is no chromium: install one, or name it by CHROMIUM");
}

const directory = mkdtempSync(join(tmpdir(), "portal-"));
const fixturePath = join(directory, "fixture.json");
const database = join(directory, "keys.db");
const cli = program(process.env.CLI, "tower-api-key", "-p tower-api-key-cli");
const server = spawn(program(process.env.SERVER, "examples/server", "--example server"), {
  env: { ...process.env, ADDR: "127.0.0.1:0", DB: database, FIXTURE: fixturePath },
  stdio: ["ignore", "pipe", "inherit"],
});
await new Promise((ready, failed) => {
  server.once("exit", () => failed(new Error("the server has ended")));
  createInterface({ input: server.stdout }).on("line", (line) => line.includes("Stop with Ctrl-C.") && ready());
});
const fixture = JSON.parse(readFileSync(fixturePath, "utf8"));
const url = `http://${fixture.address}`;
rmSync(out, { recursive: true, force: true });
mkdirSync(out);
const browser = await chromium.launch({ executablePath: browserPath(), args: ["--no-sandbox"] });

// -- what a person does and sees

const wrong = [];

async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: DESK, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`script: ${error}`));
  page.on("console", (message) => {
    // A refused form is an expected response, but the console logs it as an error.
    if (message.type() === "error" && !/the server responded with a status of 4\d\d/.test(message.text())) {
      wrong.push(`console on ${page.url()}: ${message.text()}`);
    }
  });
  return page;
}

async function signIn(page, user, path = "/portal") {
  await page.goto(url + path);
  await page.getByLabel("Name", { exact: true }).fill(user);
  await page.getByLabel("Password").fill(fixture.passwords[user]);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(url + path);
}

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

/// Checks the page with axe and takes screenshots, in light and dark mode, for desktop and phone. Nothing may
/// overflow at any width.
async function look(page, name) {
  for (const width of [320, 640, 1085, 1095]) {
    await page.setViewportSize({ width, height: 800 });
    await fits(page, `${name} at ${width}`);
  }
  for (const [size, viewport] of [["desk", DESK], ["phone", PHONE]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.screenshot({ path: join(out, `${name}-${size}-${colorScheme}.png`), fullPage: true });
      await fits(page, `${name} on ${size}`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => axe.run());
      for (const { id, impact, help, nodes } of violations) {
        const said = `${name}, ${size}, ${colorScheme}: ${id} (${impact}): ${help}: ${nodes.map((node) => node.target)}`;
        if (impact === "serious" || impact === "critical") wrong.push(said);
        else console.log(`   axe: ${said}`);
      }
    }
  }
  await page.setViewportSize(DESK);
  await page.emulateMedia({ colorScheme: "light" });
}

/// Nothing overflows, and everything that can be clicked or typed into is visible: within the viewport, not cut off,
/// and not covered.
async function fits(page, what) {
  const wide = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll(".card")]
      .filter((part) => part.scrollWidth > part.clientWidth)
      .map((part) => `${part.tagName}.${part.className}: ${part.scrollWidth} > ${part.clientWidth}`),
  );
  assert.deepEqual(wide, [], what);
  const hidden = await page.evaluate(() => {
    const controls = [...document.querySelectorAll("a, button, input, select, textarea, summary")].filter(
      (control) => !control.matches(".skip, [type=hidden]") && control.checkVisibility(),
    );
    const cut = [];
    for (const [n, control] of controls.entries()) {
      const box = control.getBoundingClientRect();
      let [left, right] = [0, document.documentElement.clientWidth];
      for (let around = control.parentElement; around; around = around.parentElement) {
        if (getComputedStyle(around).overflowX === "visible") continue;
        const edge = around.getBoundingClientRect();
        [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
      }
      const said = `${control.tagName} ${control.id || control.getAttribute("aria-label") || control.innerText}`;
      if (box.width < 1 || box.height < 1 || box.left < left - 0.5 || box.right > right + 0.5) {
        cut.push(`${said}: ${box.left} to ${box.right} of ${left} to ${right}`);
      }
      // Scrolling to each row takes long; the first and the last are enough, because all rows are alike.
      if (n > 40 && n < controls.length - 5) continue;
      control.scrollIntoView({ block: "center" });
      const [line] = control.getClientRects();
      const there = document.elementFromPoint(line.left + line.width / 2, line.top + line.height / 2);
      if (!there || !(control.contains(there) || there.contains(control))) cut.push(`${said}: covered`);
    }
    scrollTo(0, 0);
    return cut;
  });
  assert.deepEqual(hidden, [], what);
}

async function call(key) {
  const answer = await fetch(`${url}/v1/users/usr_123`, { headers: { authorization: `Bearer ${key}` } });
  return answer.status;
}

async function countKeys(page) {
  await page.goto(`${url}/portal?state=all`);
  return page.locator("tbody tr").count();
}

/// Creates a key in the name of this user.
async function make(key, fields) {
  const answer = await fetch(`${url}/v1/api-keys`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
  const made = await answer.json();
  assert.equal(answer.status, 201, JSON.stringify(made));
  return made.data.id;
}

async function end(key, id) {
  const answer = await fetch(`${url}/v1/api-keys/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${key}` } });
  assert.equal(answer.status, 200);
}

/// The key that is created first, and rotated later.
let old;

const steps = [];
const step = (name, run) => steps.push([name, run]);

// -- the tests

step("nobody sees anything before signing in", async () => {
  const page = await visitor();
  await page.goto(`${url}/portal/new`);
  assert.equal(new URL(page.url()).pathname, "/account/sign-in");
  await look(page, "sign-in");
  await page.getByLabel("Name", { exact: true }).fill("alice");
  await page.getByLabel("Password").fill("not it");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The name or the password is wrong.").waitFor();
  await page.getByLabel("Password").fill(fixture.passwords.alice);
  await page.getByRole("button", { name: "Sign in" }).click();
  // The sign-in leads back to the requested page.
  await page.waitForURL(`${url}/portal/new`);
});

step("a key is made, shown once, copied and used", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  await look(page, "keys");
  await page.getByRole("link", { name: "Create new API key" }).click();
  await look(page, "new");

  // Projects are only for project level.
  assert(!(await page.getByLabel("Project", { exact: true }).isVisible()));
  await page.getByLabel("Project level").check();
  assert(await page.getByLabel("Project", { exact: true }).isVisible());
  const projects = await page.getByLabel("Project", { exact: true }).locator("option").allInnerTexts();
  assert.deepEqual(projects.slice(1), ["Project 1 (p1)", "Project 2 (p2)", "Project 3 (p3)"]);

  // Everything is wrong at once: each field has its error, and keeps what was typed.
  await page.getByLabel("Key name").fill("   ");
  await page.getByText("Restrictions", { exact: true }).click();
  await page.getByLabel("Restrict addresses").selectOption("enforce");
  await page.getByLabel("Allowed addresses").fill("192.0.2.0/24\n192.0.2.7/24");
  await page.getByLabel("Restrict endpoints").selectOption("observe");
  await page.getByLabel("Until a day").check();
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByText("The key was not made.").waitFor();
  for (const name of ["Key name", "Project", "Allowed addresses, one on each line", "Allowed endpoints, one on each line"]) {
    const field = page.getByLabel(name, { exact: true });
    assert.equal(await field.getAttribute("aria-invalid"), "true", name);
    const described = (await field.getAttribute("aria-describedby")).split(" ");
    assert((await page.locator(`#${described.at(-1)}`).innerText()).length > 10, name);
  }
  assert.equal(await page.getByLabel("Allowed addresses").inputValue(), "192.0.2.0/24\n192.0.2.7/24");
  assert(await page.getByLabel("Project level").isChecked());
  await look(page, "errors");

  await page.getByLabel("Key name").fill("Build server");
  await page.getByLabel("Project", { exact: true }).selectOption("p1");
  await page.getByLabel("90 days").check();
  await page.getByLabel("Allowed addresses").fill("127.0.0.0/8");
  await page.getByLabel("Restrict endpoints").selectOption("off");
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByText("This is the only time that it is shown.").waitFor();
  const secret = await page.locator("#secret").innerText();
  assert.match(secret, /^sk_live_[0-9A-Za-z]{39}$/);
  await look(page, "once");

  await page.getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  for (const line of await page.locator("pre").allInnerTexts()) assert(line.includes(secret), line);
  assert.equal(await call(secret), 200);
  assert(!page.url().includes(secret));
  old = secret;

  // A reload is a new request, without the secret.
  await page.reload();
  await page.getByText("This form was already sent").waitFor();
  assert(!(await page.content()).includes(secret));
  await look(page, "already-sent");
  assert.equal(await countKeys(page), 7);
});

step("going back does not show it again", async () => {
  const page = await visitor();
  await signIn(page, "dave", "/portal/new");
  await page.getByLabel("Key name").fill("Seen once");
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByRole("link", { name: "I have copied it" }).click();
  await page.getByRole("heading", { name: "API keys" }).waitFor();
  // The browser has stored nothing: to show the page again, it must send the form again, and asks first.
  await assert.rejects(page.goBack(), /ERR_CACHE_MISS/);
});

step("one key: looked at, restricted, rotated with a grace, ended", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  await page.getByRole("link", { name: "Build server", exact: true }).click();
  await page.getByRole("heading", { name: "What it may do now" }).waitFor();
  assert.match(await page.locator("main").innerText(), /OWNER \(reads and writes\)/);
  await look(page, "key");

  await page.getByRole("link", { name: "Name and limits" }).click();
  await page.getByLabel("How often it may be used").fill("often");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Nothing was changed.").waitFor();
  await look(page, "settings");
  await page.getByLabel("Key name").fill("Build server 2");
  await page.getByLabel("How often it may be used").fill("1000/min");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Build server 2" }).waitFor();
  assert.match(await page.locator("main").innerText(), /Changed: name, limits\s+by you/);
  await look(page, "key-limited");

  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Restrict endpoints").selectOption("observe");
  await page.getByLabel("Allowed endpoints").fill("GET v1");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Nothing was changed.").waitFor();
  await look(page, "restrictions");
  await page.getByLabel("Allowed endpoints").fill("GET /v1/users/{id}");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Observed only: refuses nothing").waitFor();

  await page.getByRole("link", { name: "Rotate", exact: true }).click();
  await look(page, "rotate");
  await page.getByRole("button", { name: "Rotate key" }).click();
  const fresh = await page.locator("#secret").innerText();
  assert.equal(await call(fresh), 200);
  await look(page, "rotated");
  // A client has not changed over yet; the page says so once its usage is written.
  assert.equal(await call(old), 200);
  await page.getByRole("link", { name: "previous key" }).click();
  await page.getByText("This one still works").waitFor();
  for (let i = 0; i < 50 && (await page.getByText("It is still used").count()) === 0; i++) {
    await page.waitForTimeout(200);
    await page.reload();
  }
  assert.match(await page.locator("main").innerText(), /It is still used: last at .*, through bearer/);
  assert.match(await page.locator("main").innerText(), /Changed: restrictions\s+by you/);
  await look(page, "key-ending");
  await page.getByRole("link", { name: "End it now" }).click();
  await look(page, "revoke");
  await page.getByRole("button", { name: "Revoke key" }).click();
  await page.locator("h1 .badge", { hasText: "Replaced" }).waitFor();
  assert.equal(await call(fresh), 200);
  await page.goto(`${url}/portal?state=all&environment=live`);
  await look(page, "keys-all");
});

step("a filter that fits nothing says so", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  await page.getByLabel("Name, key or project id").fill("nothing is called so");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByText("No key matches").waitFor();
  await look(page, "no-match");
  await page.getByRole("link", { name: "Show the working ones" }).click();
  assert((await page.locator("tbody tr").count()) > 3);
});

step("markup in a name is text", async () => {
  const page = await visitor();
  await signIn(page, "dave", "/portal/new");
  const name = `"><img src=x onerror=alert(1)><script>alert(2)</script>`;
  await page.getByLabel("Key name").fill(name);
  await page.getByRole("button", { name: "Create key" }).click();
  await page.goto(`${url}/portal`);
  await page.getByRole("link", { name, exact: true }).click();
  for (const path of ["", "/settings", "/rotate", "/revoke", "/restrictions"]) {
    await page.goto(page.url().replace(/(key_\w+).*/, `$1${path}`));
    assert((await page.locator("main").innerText()).includes(name), path);
    assert.equal(await page.locator("img, script:not([nonce])").count(), 0, path);
  }
});

step("another person's key does not exist", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  const path = await page.locator("tbody a.name").first().getAttribute("href");
  const other = await visitor();
  await signIn(other, "dave");
  const answer = await other.goto(url + path);
  assert.equal(answer.status(), 404);
  await look(other, "not-found");
});

step("those who only read make keys that read", async () => {
  const page = await visitor();
  await signIn(page, "carol");
  await page.getByText("Your access is read-only at the moment").waitFor();
  await look(page, "read-only");
  await page.getByRole("link", { name: "Create new API key" }).click();
  await page.getByLabel("Key name").fill("Reads");
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = await page.locator("#secret").innerText();
  assert.equal(await call(secret), 200);
  const written = await fetch(`${url}/v1/charges`, { method: "POST", headers: { authorization: `Bearer ${secret}` } });
  assert.equal(written.status, 403);
  await page.getByRole("link", { name: "I have copied it" }).click();
  await page.getByRole("link", { name: "Revoke Reads" }).click();
  await page.getByRole("button", { name: "Revoke key" }).click();
  await page.locator("h1 .badge", { hasText: "Revoked" }).waitFor();
  assert.equal(await call(secret), 401);
});

step("everything works without JavaScript", async () => {
  const page = await visitor({ javaScriptEnabled: false });
  await signIn(page, "bob");
  await page.getByRole("link", { name: "Create new API key" }).click();
  await page.getByLabel("Key name").fill("Without a script");
  assert(!(await page.getByLabel("Project", { exact: true }).isVisible()));
  await page.getByLabel("Project level").check();
  await page.getByLabel("Project", { exact: true }).selectOption("p1");
  await page.getByLabel("Test", { exact: false }).check();
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = await page.locator("#secret").innerText();
  assert.match(secret, /^sk_test_/);
  assert(!(await page.getByRole("button", { name: "Copy", exact: true }).isVisible()));
  assert.equal(await call(secret), 200);
  await page.getByRole("link", { name: "I have copied it" }).click();
  await page.getByRole("link", { name: "Rotate Without a script" }).click();
  await page.getByLabel("At once").check();
  await page.getByRole("button", { name: "Rotate key" }).click();
  assert.equal(await call(secret), 401);
  const second = await page.locator("#secret").innerText();
  await page.getByRole("link", { name: "I have copied it" }).click();
  for (const name of ["Without a script", "Bob's key"]) {
    await page.getByRole("link", { name: `Revoke ${name}` }).click();
    await page.getByRole("button", { name: "Revoke key" }).click();
    await page.getByRole("link", { name: "API keys" }).click();
  }
  assert.equal(await call(second), 401);
  await page.getByText("No key works at the moment").waitFor();
});

step("everything works by keyboard", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  const focused = () =>
    page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText);
  const tabTo = async (text) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      if ((await focused()).trim() === text) {
        // The focus must be visible, for people who cannot use a mouse.
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        assert.notEqual(outline, "none", text);
        return;
      }
    }
    assert.fail(`"${text}" cannot be reached by keyboard`);
  };
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await page.keyboard.press("Enter");
  await tabTo("Create new API key");
  await page.keyboard.press("Enter");
  await page.getByLabel("Key name").waitFor();
  for (let i = 0; i < 10 && (await page.evaluate(() => document.activeElement.id)) !== "name"; i++) {
    await page.keyboard.press("Tab");
  }
  await page.keyboard.type("By keyboard");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown"); // project level
  await page.keyboard.press("Tab");
  await page.keyboard.type("Project 2");
  await tabTo("Create key");
  await page.keyboard.press("Enter");
  await page.locator("#secret").waitFor();
  await tabTo("Copy");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const secret = await page.evaluate(() => navigator.clipboard.readText());
  await tabTo("I have copied it");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "Create new API key" }).waitFor();
  assert.match(await page.locator("tbody tr").first().innerText(), /Project 2/);
  await tabTo("Revoke By keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Revoke key" }).waitFor();
  await tabTo("Revoke key");
  await page.keyboard.press("Enter");
  await page.locator("h1 .badge", { hasText: "Revoked" }).waitFor();
  assert.equal(await call(secret), 401);
});

step("who has signed out is out, and forms from before do nothing", async () => {
  const page = await visitor();
  await signIn(page, "dave", "/portal/new");
  const other = await page.context().newPage();
  await other.goto(`${url}/account`);
  await look(other, "account");
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.waitForURL(`${url}/account/sign-in`);
  await page.getByLabel("Key name").fill("Too late");
  await page.getByRole("button", { name: "Create key" }).click();
  await page.getByText("You are not signed in").waitFor();
  await look(page, "signed-out");
  // After signing in again, the person continues where they were.
  await page.getByRole("link", { name: "Sign in" }).click();
  await page.getByLabel("Name", { exact: true }).fill("dave");
  await page.getByLabel("Password").fill(fixture.passwords.dave);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This is what you typed").waitFor();
  assert.equal(await page.getByLabel("Key name").inputValue(), "Too late");
  await look(page, "typed-again");
  await page.getByRole("button", { name: "Create key" }).click();
  assert.equal(await call(await page.locator("#secret").innerText()), 200);
});

step("a tab that was long open undoes nothing", async () => {
  const page = await visitor();
  await signIn(page, "alice");
  await page.locator("tbody a.name").first().click();
  await page.getByRole("link", { name: "Change" }).click();
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByLabel("Restrict addresses").selectOption("enforce");
  await other.getByLabel("Allowed addresses").fill("192.0.2.0/24");
  await other.getByRole("button", { name: "Save" }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("this was changed elsewhere").waitFor();
  assert.equal(await page.getByLabel("Allowed addresses").inputValue(), "192.0.2.0/24");
  await look(page, "changed-elsewhere");
});

const LONG = {
  letters: "W".repeat(64),
  words: "The key of the build server for nightly releases in Frankfurt II",
  hebrew: "מפתח של שרת הבנייה",
  arabic: "مفتاح الإنتاج " + "م".repeat(50),
  mixed: "נתונים 2030 production (מפתח) #1",
  chinese: "鍵".repeat(64),
};

step("long, many and right-to-left names hide no control", async () => {
  for (const [id, name] of [
    ["x".repeat(64), "Y".repeat(64)],
    ["q2", LONG.words],
    ["q3", LONG.arabic],
  ]) {
    execFileSync(cli, ["--database", database, "project", "create", "B", id, "--name", name]);
  }
  const page = await visitor();
  await signIn(page, "dave", "/portal/new");
  await page.getByLabel("Key name").fill(LONG.mixed);
  await page.getByLabel("Project level").check();
  await look(page, "new-long");
  await page.getByLabel("User level").check();
  await page.getByLabel("Test", { exact: false }).check();
  await page.getByRole("button", { name: "Create key" }).click();
  const test = await page.locator("#secret").innerText();
  const names = Object.values(LONG);
  const projects = ["x".repeat(64), "q2", "q3"];
  // More than two hundred keys. A person may have a hundred active keys in each environment, so some are revoked.
  for (const [key, environment] of [[fixture.keys.dave, "live"], [test, "test"]]) {
    for (let n = 0; n < 108; n++) {
      const project = n % 3 === 0 ? { level: "project", project_id: projects[(n / 3) % 3] } : {};
      const limits = n % 7 === 0 ? { limits: "12/min,burst=2/s" } : {};
      const id = await make(key, { name: names[n % names.length], environment, ...project, ...limits });
      if (n % 5 === 0) await end(key, id);
    }
  }
  await page.goto(`${url}/portal?state=all`);
  const rows = await page.locator("tbody tr").count();
  const links = await page.locator("tbody tr").filter({ has: page.getByRole("link", { name: /^Revoke/ }) }).count();
  assert(rows >= 200 && links >= 150, `${rows} rows, ${links} to revoke`);
  await look(page, "keys-many");
  for (const [what, name] of Object.entries(LONG)) {
    await page.goto(`${url}/portal?q=${encodeURIComponent(name)}`);
    await page.locator("tbody a.name").first().click();
    await page.getByRole("heading", { name: "What it may do now" }).waitFor();
    const path = page.url();
    await look(page, `key-${what}`);
    for (const form of ["settings", "rotate", "restrictions", "revoke"]) {
      await page.goto(`${path}/${form}`);
      for (const width of [320, 640, 1100]) {
        await page.setViewportSize({ width, height: 800 });
        await fits(page, `${form} of ${what} at ${width}`);
      }
      if (what === "letters" || what === "arabic") await look(page, `${form}-${what}`);
    }
    await page.goto(`${path}/rotate`);
    await page.getByRole("button", { name: "Rotate key" }).click();
    await page.locator("#secret").waitFor();
    await look(page, `once-${what}`);
  }
  // The key that was found can be revoked, also on a phone.
  await page.setViewportSize(PHONE);
  await page.goto(`${url}/portal?q=${LONG.letters}`);
  await page.getByRole("link", { name: `Revoke ${LONG.letters}` }).first().click();
  await page.getByRole("button", { name: "Revoke key" }).click();
  await page.locator("h1 .badge", { hasText: "Revoked" }).waitFor();
});

// -- run

const only = process.argv[2];
let failed = 0;
for (const [name, run] of steps) {
  if (only && !name.includes(only)) continue;
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
}
for (const said of wrong) console.log(`WRONG ${said}`);
await browser.close();
server.removeAllListeners("exit");
server.kill();
rmSync(directory, { recursive: true, force: true });
process.exit(failed + wrong.length === 0 ? 0 : 1);
