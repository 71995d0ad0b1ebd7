import { isDeepStrictEqual } from "node:util";
import type { Peer, PeersRequest } from "../../api/peers.ts";
import type { Clock } from "../../base/clock.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { BlobPlace } from "../../repository/repository.ts";
import type { ReadReason } from "../read-queue.ts";
import type { Ask } from "../read-scheduler.ts";
import { ASKS_PER_PEER, type AskMode, type BlobClient } from "./peer-client.ts";
import { PeerError, type PeerErrorCode } from "./peer-error.ts";
import { responsible } from "./rendezvous.ts";

/** Of all blobs that are asked for at once, plain: they are in memory until they are stored. */
const ASKED_BYTES = 32 * 2 ** 20;
/** For how long an agent is left alone, by what it answered. One that has just been restarted, or is told of us a little later, is soon asked again. */
const LEFT_ALONE_MS: Readonly<Partial<Record<PeerErrorCode, number>>> = {
  PEER_REFUSED: 1000,
  PEER_SILENT: 5000,
  PEER_WRONG: 60_000,
};
/** Twice as long each time that it does not answer once more, at most. */
const LEFT_ALONE_MOST_MS = 60_000;
/** How long a guest waits for another agent: as long as the repository usually takes. */
const PATIENCE_MS = { unknown: 100, least: 50, most: 1000 };
/** After it waited in vain, guests do not ask that agent for so many times as long: what they lose is a tenth at most. */
const GUESTS_PAUSE = 10;
/** Staging waits longer, as the other agent has the blob yet to fetch, and others before it. */
const STAGING_MS = { unknown: 5000, least: 4000, most: 10_000, timesUsual: 8 };
/** What need not be fetched first is waited for so many times shorter. */
const UNFETCHED = 4;
/** Of the time that the repository took, the last one counts for so much. */
const USUAL_WEIGHT = 0.1;
/** How many are asked for one blob, at most, and after which answers. */
const TRIES = 3;
const PASSED_ON = new Set<string>(["PEER_LACKS", "PEER_NOT_NOW", "PEER_REFUSED"]);
/** Why a question ends that nobody waits for. */
const NOT_WANTED = new Error("not wanted any more");
/** Packs of which it is known who does not need them. */
const LACKING_LIMIT = 4096;

/** What is told of the sharing, for metrics. */
export interface PeersObserver {
  /** A blob came from another agent. */
  taken(bytes: number): void;
  /** Another agent was asked, and gave none. */
  notTaken(code: string): void;
}

export interface PeersOptions {
  /** uid of this agent's VMRestore. */
  readonly self: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly observer: PeersObserver;
  readonly connect: (peer: Peer) => BlobClient;
}

interface Member {
  readonly peer: Peer;
  readonly client: BlobClient;
  underWay: number;
  /** How often it did not answer, one time after the other. */
  silences: number;
  /** Monotonic milliseconds: until then it is not asked, and until then not for a guest. */
  leftAloneUntil: number;
  guestsUntil: number;
}

interface Question {
  readonly id: string;
  readonly place: BlobPlace;
  readonly reason: ReadReason;
  readonly patienceMs: number;
  readonly signal: AbortSignal;
}

interface Chosen {
  readonly name: string;
  readonly member: Member;
  readonly mode: AskMode;
}

/**
 * The agents of other restores that read the same repository, and what to ask which. Of each pack one of them all is responsible for what
 * is in it, this one among them: it fetches for the others. Nothing here makes a read fail, or wait for longer than a bounded moment.
 */
export class Peers {
  readonly #options: PeersOptions;
  #members: ReadonlyMap<string, Member> = new Map();
  #digest: string | undefined;
  #bytes = 0;
  #usualMs: number | undefined;
  /** Whose disks have nothing of a pack, as far as was seen. */
  readonly #lacking = new Map<string, Set<string>>();

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  /** Of what was told last. */
  get digest(): string | undefined {
    return this.#digest;
  }

  /** From now on it is these. */
  tell({ digest, peers }: PeersRequest): void {
    if (digest === this.#digest) return;
    const before = this.#members;
    const members = peers
      .filter(({ id }) => id !== this.#options.self)
      .map((peer): [string, Member] => {
        const known = before.get(peer.id);
        // What is under way with those that stay goes on.
        return [peer.id, known !== undefined && isDeepStrictEqual(known.peer, peer) ? known : this.#member(peer)];
      });
    this.#digest = digest;
    this.#members = new Map(members);
    this.#lacking.clear();
    for (const [id, member] of before) if (this.#members.get(id) !== member) member.client.close();
  }

  /** The repository gave a blob after so many milliseconds. */
  fetched(tookMs: number): void {
    this.#usualMs = this.#usualMs === undefined ? tookMs : this.#usualMs * (1 - USUAL_WEIGHT) + tookMs * USUAL_WEIGHT;
  }

  /** Undefined where nobody can be asked now. */
  ask(id: string, place: BlobPlace | undefined, reason: ReadReason): Ask | undefined {
    if (this.#members.size === 0 || place === undefined) return undefined;
    const chosen = this.#choose(place.pack, reason);
    if (chosen === undefined || this.#bytes + place.length > ASKED_BYTES) return undefined;
    const ending = new AbortController();
    const patienceMs = within(PATIENCE_MS, this.#usualMs);
    const stagingMs = within(STAGING_MS, this.#usualMs && this.#usualMs * STAGING_MS.timesUsual);
    const limitMs = reason === "guest" ? patienceMs : chosen.mode === "Fetch" ? stagingMs : stagingMs / UNFETCHED;
    this.#bytes += place.length;
    this.#options.clock.sleep(limitMs, ending.signal).then(
      () => ending.abort(new PeerError("PEER_SILENT", `no answer within ${Math.round(limitMs)} ms`)),
      () => undefined,
    );
    const question: Question = { id, place, reason, patienceMs, signal: ending.signal };
    const content = this.#askInTurn(question, chosen);
    // Not every answer has somebody who still waits for it.
    content.catch(() => undefined);
    const end = (): void => {
      this.#bytes -= place.length;
      ending.abort(NOT_WANTED);
    };
    return { content, patienceMs, isFetched: chosen.mode === "Fetch", end };
  }

  close(): void {
    for (const { client } of this.#members.values()) client.close();
    this.#members = new Map();
  }

  #member(peer: Peer): Member {
    const never = Number.NEGATIVE_INFINITY;
    const client = this.#options.connect(peer);
    return { peer, client, underWay: 0, silences: 0, leftAloneUntil: never, guestsUntil: never };
  }

  /** Who does not answer, or has nothing of it, costs next to no time: then it is the next one's turn. */
  async #askInTurn(question: Question, first: Chosen): Promise<Buffer> {
    const { id, place, reason, signal } = question;
    const tried = new Set<string>();
    for (let chosen: Chosen | undefined = first; ; ) {
      const { name, member, mode }: Chosen = chosen;
      member.underWay++;
      try {
        const content = await member.client.fetch({ id, length: place.length, mode }, signal);
        member.silences = 0;
        this.#options.observer.taken(content.length);
        return content;
      } catch (error) {
        this.#failed(chosen, question, error);
        tried.add(name);
        chosen =
          mode === "Now" || tried.size >= TRIES || signal.aborted || !PASSED_ON.has(errorCode(error) ?? "")
            ? undefined
            : this.#choose(place.pack, reason, tried);
        if (chosen === undefined) throw error;
      } finally {
        member.underWay--;
      }
    }
  }

  /**
   * The first who is responsible is to fetch it; where that one does not answer, or needs nothing of the pack, it is the next for everybody
   * who has seen that. Before this agent fetches what it is responsible for itself, it looks whether the next has it: that one may have been
   * here before.
   */
  #choose(pack: string, reason: ReadReason, tried?: ReadonlySet<string>): Chosen | undefined {
    const { self, clock } = this.#options;
    const lacking = this.#lacking.get(pack);
    const time = clock.monotonic();
    const order = responsible([self, ...this.#members.keys()], pack).filter(
      (id) => lacking?.has(id) !== true && time >= (this.#members.get(id)?.leftAloneUntil ?? 0),
    );
    const isOwn = order[0] === self;
    const name = order.find((id) => id !== self && tried?.has(id) !== true);
    const member = name === undefined ? undefined : this.#members.get(name);
    if (name === undefined || member === undefined || member.underWay >= ASKS_PER_PEER) return undefined;
    const mode = isOwn ? "Cached" : reason === "guest" ? "Now" : "Fetch";
    return reason === "guest" && time < member.guestsUntil ? undefined : { name, member, mode };
  }

  #failed({ name, member }: Chosen, { place, reason, patienceMs, signal }: Question, error: unknown): void {
    const { clock, log, observer } = this.#options;
    const code = error instanceof PeerError ? error.code : undefined;
    if (code !== undefined) observer.notTaken(code);
    // That it is slower than a guest may wait says little: it may have much to do.
    if (reason === "guest" && (code === "PEER_SILENT" || signal.reason === NOT_WANTED))
      member.guestsUntil = clock.monotonic() + GUESTS_PAUSE * patienceMs;
    // Several that were under way fail together: that is one failure.
    else if (code !== undefined && clock.monotonic() >= member.leftAloneUntil)
      member.leftAloneUntil = clock.monotonic() + leftAlone(member, code);
    if (code === "PEER_LACKS") this.#lacks(name, place.pack);
    if (code === "PEER_WRONG")
      log.warn({ peer: name, code, reason: errorMessage(error) }, "another agent gave what was not asked for");
  }

  #lacks(name: string, pack: string): void {
    if (this.#lacking.size >= LACKING_LIMIT) this.#lacking.clear();
    const lacking = this.#lacking.get(pack) ?? new Set();
    lacking.add(name);
    this.#lacking.set(pack, lacking);
  }
}

/** Milliseconds. */
function leftAlone(member: Member, code: PeerErrorCode): number {
  const ms = LEFT_ALONE_MS[code] ?? 0;
  if (code !== "PEER_SILENT") return ms;
  return Math.min(LEFT_ALONE_MOST_MS, ms * 2 ** Math.min(member.silences++, 10));
}

function within({ unknown, least, most }: { unknown: number; least: number; most: number }, ms: number | undefined) {
  return ms === undefined ? unknown : Math.min(most, Math.max(least, ms));
}
