import { LocalBackend } from "../backends/local.ts";
import { Repository } from "../repository.ts";
import type { Seen } from "./fault-proxy.ts";
import { openFile } from "./read-range.ts";
import type { ResticRepository } from "./restic.ts";

interface PackedBlob {
  readonly id: string;
  readonly offset: number;
  readonly length: number;
}

/** Tells from a request to a repository which blobs of a file it asks for. */
export class BlobPlaces {
  /** Where each blob of the file begins in it, in order; bytes. */
  readonly offsets: readonly number[];
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #packs: ReadonlyMap<string, readonly PackedBlob[]>;

  private constructor(ids: readonly string[], offsets: readonly number[], packs: Map<string, readonly PackedBlob[]>) {
    this.offsets = offsets;
    this.#numbers = new Map(ids.map((id, number) => [id, number]));
    this.#packs = packs;
  }

  static async of(restic: ResticRepository, snapshot: string, path: string): Promise<BlobPlaces> {
    const repository = await Repository.open(new LocalBackend(restic.directory), restic.password);
    try {
      const file = await openFile(repository, snapshot, path);
      const blobs = Array.from({ length: file.blobCount }, (_, index) => file.blob(index));
      const packs = new Map<string, readonly PackedBlob[]>();
      for (const name of (await restic.restic(["list", "index"])).trim().split("\n")) {
        const index = JSON.parse(await restic.restic(["cat", "index", name])) as {
          packs: { id: string; blobs: PackedBlob[] }[];
        };
        for (const { id, blobs: packed } of index.packs) packs.set(id, packed);
      }
      const places = blobs.map(({ offset }) => offset);
      return new BlobPlaces(
        blobs.map(({ id }) => id),
        places,
        packs,
      );
    } finally {
      await repository.close();
    }
  }

  /** Numbers of the file's blobs that a request asks for, in the pack's order; none where it asks for something else. */
  askedFor({ url, range }: Seen): number[] {
    const pack = this.#packs.get(/data\/([0-9a-f]{64})/.exec(url)?.[1] ?? "") ?? [];
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range ?? "") ?? [];
    return pack
      .filter(({ offset, length }) => offset >= Number(from) && offset + length <= Number(to) + 1)
      .flatMap(({ id }) => this.#numbers.get(id) ?? []);
  }
}
