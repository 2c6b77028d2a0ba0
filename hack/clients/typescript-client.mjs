// A session with mcp-bridge by the MCP SDK for TypeScript, for cmd/mcp-bridge/clients_linux_test.go:
//
//   cd DIRECTORY-WITH-node_modules && node typescript-client.mjs COMMAND [ARG...]
//
// It prints one line of JSON: what it saw. It judges nothing; the test does.
import { createRequire } from "node:module";
import { readFileSync, readdirSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

// An import would look for the SDK beside this file, where nothing is installed.
const require = createRequire(join(process.cwd(), "package.json"));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");

// A process's name is what a test can see of a sandbox from outside, whoever runs it.
const named = (name) =>
  readdirSync("/proc").filter((p) => {
    try {
      return /^\d+$/.test(p) && readFileSync(`/proc/${p}/comm`, "utf8").trim() === name;
    } catch {
      return false; // it ended meanwhile
    }
  }).length;

async function until(condition) {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(5)) if (condition()) return true;
  return false;
}

const [command, ...args] = process.argv.slice(2);
const report = { sdk: "typescript" };
const client = new Client({ name: "mcp-bridge-test", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }));
report.server = client.getServerVersion().name;

const { tools } = await client.listTools(); // with it, the SDK checks what comes against the tool's output schema
report.tools = tools.map((t) => t.name);
report.schemas = tools.every((t) => t.inputSchema?.type === "object" && t.outputSchema?.type === "object");

const run = async (code, options) => {
  const r = await client.callTool({ name: "run_python", arguments: { code } }, undefined, options);
  return { ...r.structuredContent, isError: r.isError ?? false, text: r.content[0].text };
};
report.success = await run("print('hello from', 6 * 7)\n{'answer': 6 * 7}");
report.failure = await run("print('before')\n1 / 0");

const mark = "mb" + randomBytes(6).toString("hex");
const abort = new AbortController();
const running = run(`open('/proc/self/comm', 'w').write('${mark}')\nwhile True: pass`, { signal: abort.signal }).then(
  () => "answered",
  (e) => (abort.signal.aborted ? "cancelled" : `failed: ${e}`),
);
report.started = await until(() => named(mark) > 0);
abort.abort("the test says so");
report.cancelled = await running;
report.gone = await until(() => named(mark) === 0);
report.next = await run("'still here'");

const { contents } = await client.readResource({ uri: "resource://mcp-server-code-execution-mode/capabilities" });
report.manual = { mimeType: contents[0].mimeType, text: contents[0].text };
await client.close();
console.log(JSON.stringify(report));
