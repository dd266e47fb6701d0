/**
 * Sessions of Handover: streams that go on when their servers die.
 *
 * A gateway that goes away is replaced by the next one of those given, and the session goes on after the last response that
 * the program was given. Calls that may be made again elsewhere are; what is refused is thrown, as an error of its own class.
 */
import type { SecureClientSessionOptions } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonObject } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as pb from "./stubs/handover/session/v1/session_pb.js";

type Stub = Client<typeof pb.SessionService>;
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [50, 1000];
/** Longer than a gateway looks for a server before it says that there is none. */
const ANSWER_MAX_MS = 15_000;
const LIMITS = { pingIntervalMs: 2000, pingTimeoutMs: 2000, idleConnectionTimeoutMs: 10_000, defaultTimeoutMs: ANSWER_MAX_MS };
const TRANSIENT = [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded, Code.Unknown, Code.Internal, Code.Canceled];
/** A request that the service refused has had its number; one that the gateway refused has not. */
const BY_THE_SERVICE = ["MALFORMED_REQUEST", "REQUEST_OUT_OF_RANGE", "REQUEST_REFUSED", "REQUEST_FAILED"];

/** Why a call failed. `reason` is the stable word that the contract gives, such as UNKNOWN_UNIT. */
export class HandoverError extends Error {
  constructor(message: string, readonly reason: string, cause: unknown) {
    super(reason ? `${message} (${reason})` : message, { cause });
    this.name = new.target.name;
  }
}

/** There is no such unit, or the session is over. */
export class NotFound extends HandoverError {}
/** The service, or the gateway, does not do this. */
export class Refused extends HandoverError {}
/** No gateway helped in time. */
export class Unreachable extends HandoverError {}

/** The word of an `ErrorInfo`, which is its first field. */
function reasonOf({ details }: ConnectError): string {
  const info = details.find((it) => "type" in it && it.type === "google.rpc.ErrorInfo")?.value;
  const reader = new BinaryReader(info instanceof Uint8Array ? info : new Uint8Array());
  return reader.len > 0 && reader.tag()[0] === 1 ? reader.string() : "";
}

/** Whether another gateway may help. A connection that breaks is `Aborted`, too, and gives no reason. */
function isTransient(error: ConnectError): boolean {
  return TRANSIENT.includes(error.code) || (error.code === Code.Aborted && !reasonOf(error));
}

const typed = (error: ConnectError): HandoverError =>
  new (error.code === Code.NotFound ? NotFound : Refused)(error.rawMessage, reasonOf(error), error);

/** For how long to try again. */
class Patience {
  #pauseMs = FIRST_PAUSE_MS;
  readonly #begun = performance.now();

  constructor(private readonly ms: number) {}

  /** Waits, each time for longer, unless it is too late. */
  async wait(failed: ConnectError): Promise<void> {
    if (performance.now() > this.#begun + this.ms)
      throw new Unreachable(`no gateway helped within ${this.ms} ms: ${failed.rawMessage}`, reasonOf(failed), failed);
    await sleep(this.#pauseMs * (0.5 + Math.random() / 2));
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }
}

export type Token = string | (() => string | Promise<string>);
/** For how long gateways are tried (30,000 ms); what Node is to know for TLS, such as `ca`; a token, or who gives one. */
export type Options = { patienceMs?: number; tls?: SecureClientSessionOptions; token?: Token };

/** The gateways that a program knows, and the one in use. */
class Gateways {
  stub!: Stub;
  #left!: AbortController;
  readonly #addresses: string[];
  readonly patienceMs: number;

  constructor(addresses: readonly string[], private readonly options: Options) {
    this.#addresses = [...addresses];
    this.patienceMs = options.patienceMs ?? 30_000;
    this.#open();
  }

  #open(): void {
    const { tls, token } = this.options;
    const [baseUrl, left] = [`${tls ? "https" : "http"}://${this.#addresses[0]}`, (this.#left = new AbortController())];
    const leaving: Interceptor = (next) => async (call) => {
      const shown = typeof token === "function" ? await token() : token;
      if (shown) call.header.set("authorization", `Bearer ${shown}`);
      return next({ ...call, signal: AbortSignal.any([call.signal, left.signal]) });
    };
    const options = { ...LIMITS, baseUrl, nodeOptions: tls ?? {}, interceptors: [leaving] };
    this.stub = createClient(pb.SessionService, createGrpcTransport(options));
  }

  /** Goes on at the next gateway, unless another call has left this one already. */
  leave(stub: Stub): void {
    if (stub !== this.stub) return;
    this.close();
    this.#addresses.push(...this.#addresses.splice(0, 1));
    this.#open();
  }

  readonly close = (): void => this.#left.abort();

  /** Makes a call until a gateway answers it. A refusal for the reason `passing` may be none a moment later. */
  async call<T>(what: (stub: Stub) => Promise<T>, passing?: string): Promise<T> {
    for (const patience = new Patience(this.patienceMs); ; ) {
      const stub = this.stub;
      try {
        return await what(stub);
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        if (isTransient(error)) this.leave(stub);
        else if (!passing || reasonOf(error) !== passing) throw typed(error);
        await patience.wait(error);
      }
    }
  }
}

/** The content units that can be opened: `name` is `contentUnits/UNIT`. */
export async function units(gateways: readonly string[], options: Options = {}): Promise<pb.ContentUnit[]> {
  const known = new Gateways(gateways, options);
  const listed = known.call((stub) => stub.listContentUnits({}));
  return (await listed.finally(() => known.close())).contentUnits;
}

/** A session. Its responses are read at one place; requests may be sent from others meanwhile. */
export class Session implements AsyncIterable<pb.Response> {
  #requests = 0n;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(private readonly gateways: Gateways, private readonly created: pb.CreateSessionResponse) {}

  /** Opens a session on `unit` with the first gateway that helps. */
  static async open(gateways: readonly string[], unit: string, options: Options = {}): Promise<Session> {
    const known = new Gateways(gateways, options);
    const created = known.call((stub) => stub.createSession({ parent: `contentUnits/${unit}` }));
    created.catch(() => known.close());
    return new Session(known, await created);
  }

  /** Responses, and who serves. Ends after the last response; begin again after a request that goes back. */
  async *events(): AsyncGenerator<pb.AttachResponse["event"], void> {
    for (let patience = new Patience(this.gateways.patienceMs); ; ) {
      const [stub, left, { name, secret, cursor }] = [this.gateways.stub, new AbortController(), this.created];
      const late = setTimeout(() => left.abort(), ANSWER_MAX_MS);
      try {
        for await (const { event } of stub.attach({ name, secret, cursor }, { signal: left.signal, timeoutMs: 0 })) {
          clearTimeout(late);
          patience = new Patience(this.gateways.patienceMs);
          if (event.case === "response") this.created.cursor = event.value.cursor;
          yield event;
        }
        return;
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        if (!isTransient(error)) throw typed(error);
        this.gateways.leave(stub);
        await patience.wait(error);
      } finally {
        clearTimeout(late);
        left.abort();
      }
    }
  }

  /** The responses. */
  async *[Symbol.asyncIterator](): AsyncGenerator<pb.Response, void> {
    for await (const event of this.events()) if (event.case === "response") yield event.value;
  }

  /** Has the service do something, once, and returns the request's number then. The session has to be read meanwhile. */
  send(operation: JsonObject): Promise<bigint> {
    const sent = this.#turn.then(async () => {
      const [{ name, secret }, number] = [this.created, this.#requests + 1n];
      const request = { name, secret, number, operation };
      try {
        // Whoever reads the session may still be on the way to this gateway.
        await this.gateways.call((stub) => stub.sendRequest(request), "UNKNOWN_SESSION");
      } catch (error) {
        if (error instanceof Refused && BY_THE_SERVICE.includes(error.reason)) this.#requests = number;
        throw error;
      }
      return (this.#requests = number);
    });
    this.#turn = sent.catch(() => undefined);
    return sent;
  }

  /** Ends the session for good. */
  async close(): Promise<void> {
    const { name, secret } = this.created;
    await this.gateways.call((stub) => stub.closeSession({ name, secret })).finally(() => this.gateways.close());
  }
}
