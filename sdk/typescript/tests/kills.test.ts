/**
 * A film, while a server and then a gateway are killed: every byte once; so when a gateway stands still. Refusals have their
 * classes and reasons.
 *
 * The command is the program in the variable HANDOVER_BIN.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, type SpawnOptions } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { HandoverError, NotFound, Refused, Session, Unreachable, units } from "handover-client";

const HANDOVER = process.env["HANDOVER_BIN"] ?? "handover";
const PACKAGE = join(import.meta.dirname, "../..");
const ROOT = join(PACKAGE, "../..");
const HURRY = { rate: { factor: 8 } };

/** `handover up`, which starts again what is killed. */
class Cluster {
  readonly home = mkdtempSync(join(tmpdir(), "handover-"));
  readonly #env = { ...process.env, XDG_STATE_HOME: this.home };
  #up!: ChildProcess;

  async start(flags: string[] = [], env: Record<string, string> = {}): Promise<void> {
    const options: SpawnOptions = { env: { ...this.#env, ...env }, stdio: ["ignore", "pipe", "inherit"] };
    this.#up = spawn(HANDOVER, ["up", ...flags], options);
    const { stdout } = this.#up;
    assert(stdout);
    let last = "";
    for await (last of createInterface({ input: stdout })) if (last.startsWith("Next")) break;
    stdout.resume();
    assert.match(last, /^Next/, "the cluster came up");
  }

  #processes(): { service: string; address: string; pid: number }[] {
    return JSON.parse(readFileSync(join(this.home, "handover/local/cluster.json"), "utf8")).processes;
  }

  gateways(): string[] {
    return this.#processes().filter((it) => it.service === "gateway").map((it) => it.address);
  }

  pid(address: string): number {
    return this.#processes().find((it) => it.address === address)?.pid ?? 0;
  }

  kill(kind: string, name: string): void {
    execFileSync(HANDOVER, ["kill", kind, name], { env: this.#env, stdio: "pipe" });
  }

  async stop(): Promise<void> {
    if (this.#up.exitCode === null && this.#up.kill("SIGTERM")) await once(this.#up, "exit");
    rmSync(this.home, { recursive: true });
  }
}

const cluster = new Cluster();
before(() => cluster.start());
after(() => cluster.stop());

test("a gateway that stands still is left, by responses and requests", async () => {
  const gateways = cluster.gateways();
  const session = await Session.open(gateways, "life");
  const [still, numbers, sent] = [cluster.pid(gateways[0] ?? ""), [] as bigint[], [] as Promise<bigint>[]];
  assert(still > 0);
  try {
    for await (const { number, last } of session) {
      numbers.push(number);
      if (number === 5n) {
        process.kill(still, "SIGSTOP");
        sent.push(session.send(HURRY));
      }
      if (last) break;
    }
    assert.deepEqual(await Promise.all(sent), [1n]);
    assert.deepEqual(numbers, numbers.map((_, index) => BigInt(index + 1)));
  } finally {
    process.kill(still, "SIGCONT");
  }
  await session.close();
});

test("a film is whole though its server and its gateway are killed", async () => {
  const session = await Session.open(cluster.gateways(), "life");
  const hurry = session.send(HURRY);
  const [film, servers, numbers] = [createHash("sha256"), [] as string[], [] as bigint[]];
  for await (const { case: kind, value } of session.events()) {
    if (kind === "serving") servers.push(value.server);
    if (kind !== "response") continue;
    film.update(value.payload);
    numbers.push(value.number);
    if (value.number === 20n) cluster.kill("server", servers.at(-1) ?? "");
    if (value.number === 50n) cluster.kill("gateway", "gateway-1");
  }
  await hurry;
  await session.close();
  assert.deepEqual(numbers, numbers.map((_, index) => BigInt(index + 1)));
  const original = createHash("sha256").update(readFileSync(join(ROOT, "content/life.mp4")));
  assert.equal(film.digest("hex"), original.digest("hex"));
  assert(new Set(servers).size > 1, `${servers}`);
});

test("the examples that people read do what they say", async () => {
  const [one = "", other = ""] = cluster.gateways();
  for (const page of ["README.md", "sdk/typescript/README.md"]) {
    const shown = readFileSync(join(ROOT, page), "utf8").split("```ts\n")[1]?.split("```")[0] ?? "";
    const [, begin, end] = /^([^]*await Session.open.*\n)([^]*)$/.exec(shown) ?? [];
    assert(begin && end, `${page} has an example`);
    const film = join(cluster.home, "film.mp4");
    // The film of a minute is too long for a test: it is told to hurry before it is read.
    const example = `${begin}session.send(${JSON.stringify(HURRY)});\n${end}`
      .replace("127.0.0.1:7400", one)
      .replace("127.0.0.1:7401", other)
      .replace('"mandelbrot.mp4"', JSON.stringify(film));
    const module = join(PACKAGE, "build", `${page.replaceAll("/", "-")}.mjs`);
    writeFileSync(module, example);
    await import(pathToFileURL(module).href);
    assert.deepEqual(readFileSync(film), readFileSync(join(ROOT, "content/mandelbrot.mp4")));
    rmSync(film);
  }
});

test("what is refused has its class and its reason", async () => {
  const gateways = cluster.gateways();
  const refused = (kind: typeof HandoverError, reason: string) => (error: unknown) =>
    error instanceof kind && error.reason === reason;
  assert((await units(gateways)).some((unit) => unit.name === "contentUnits/life"));
  await assert.rejects(Session.open(gateways, "nothing"), refused(NotFound, "UNKNOWN_UNIT"));
  await assert.rejects(Session.open(["127.0.0.1:1"], "life", { patienceMs: 200 }), refused(Unreachable, ""));
  const session = await Session.open(gateways, "gradients");
  const events = session.events();
  await events.next();
  await assert.rejects(session.send({ fly: {} }), refused(Refused, "MALFORMED_REQUEST"));
  await assert.rejects(session.send({ seek: { position_ms: 1e9 } }), refused(Refused, "REQUEST_OUT_OF_RANGE"));
  await assert.rejects(session.send({ words: "x".repeat(70_000) }), refused(Refused, "REQUEST_TOO_LARGE"));
  assert.equal(await session.send({ pause: {} }), 3n);
  await events.return();
  await session.close();
});

test("where clients are asked for a token, who shows a good one is let in", async () => {
  const asking = new Cluster();
  const draw = (name: string, rank: string) =>
    execFileSync(HANDOVER, ["token", list, name, "--rank", rank], { encoding: "utf8" }).trim();
  const list = join(asking.home, "tokens.toml");
  const [admin, token] = [draw("ada", "admin"), draw("alice", "viewer")];
  await asking.start(["--auth-tokens", list], { HANDOVER_TOKEN: admin });
  try {
    const [one = "", other = ""] = asking.gateways();
    await assert.rejects(units([one]), (error) => error instanceof Refused && error.reason === "NO_TOKEN");
    const session = await Session.open([one, other], "life", { token });
    for await (const response of session) if (response.number === 3n) break;
    await session.close();

    let asked = 0;
    const renewed = async (): Promise<string> => {
      asked += 1;
      if (asked === 1) throw new Error("there is none yet");
      return token;
    };
    const again = await Session.open([one, other], "life", { token: renewed });
    for await (const response of again) if (response.number === 3n) break;
    await again.close();
    assert.equal(asked, 4, "before each of three calls, and once more as there was none at first");
  } finally {
    await asking.stop();
  }
});
