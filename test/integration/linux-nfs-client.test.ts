import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { noise } from "../../src/repository/testing/restic.ts";
import { runInUml } from "../uml/run-in-uml.ts";
import type { Slowness } from "../uml/serve-overlay.ts";

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const PATH = "/0123456789abcdef0123456789abcdef";

let state: string;
let original: string;

beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), "overlay-"));
  await Promise.all(["own", "other"].map((directory) => mkdir(join(state, directory))));
  original = join(state, "original.img");
  await writeFile(original, noise(SIZE, 1));
});

afterEach(() => rm(state, { recursive: true, force: true }));

function run(script: string, mountOptions = "", slowness: Slowness = {}): Promise<string> {
  const program = join(import.meta.dirname, "../uml/serve-overlay.ts");
  const serve = (directory: string, path: string): string[] => [
    ...[process.execPath, program, join(state, directory), path, original, JSON.stringify(slowness)],
  ];
  const [server, otherServer] = [serve("own", PATH), serve("other", "/fedcba9876543210fedcba9876543210")];
  return runInUml({ exportPath: PATH, server, otherServer, mountOptions, script });
}

/** The largest number that the server has said behind a word. */
const most = (console: string, word: string): number =>
  Math.max(0, ...[...console.matchAll(new RegExp(`${word} (\\d+)`, "g"))].map((match) => Number(match[1])));

const fio = (options: string): string =>
  `fio --name=x --filename=/run/mnt/disk.img --allow_file_create=0 --verify=crc32c --verify_fatal=1 --output-format=terse --terse-version=3 ${options} > /run/fio 2>&1 || { cat /run/fio; exit 1; }`;

test("a Linux kernel mounts the export and sees one disk of 107:107, fully allocated, with no space free", async () => {
  const console = await run(`
    ls -ln /run/mnt
    stat -c 'ALLOCATED %b %B' /run/mnt/disk.img
    stat -f -c 'FREE %f %a' /run/mnt
    chown 107:107 /run/mnt/disk.img
    chmod 0660 /run/mnt/disk.img
    for refused in 'touch /run/mnt/other' 'rm -f /run/mnt/disk.img' 'ln /run/mnt/disk.img /run/mnt/other' \\
      'ln -s x /run/mnt/other' 'mkdir /run/mnt/other' 'mv /run/mnt/disk.img /run/mnt/other' 'mknod /run/mnt/other p' \\
      'chmod 0666 /run/mnt/disk.img' 'truncate -s 0 /run/mnt/disk.img' 'truncate -s +4096 /run/mnt/disk.img'; do
      if $refused 2> /run/why; then echo "UNEXPECTED: $refused"; else echo "REFUSED: $refused: $(cat /run/why)"; fi
    done
    ls /run/mnt | grep -qx disk.img
    head -c 100 /run/mnt/disk.img | sha256sum
  `);
  expect(console).toMatch(new RegExp(`-rw-rw----\\s+1\\s+107\\s+107\\s+${SIZE}.*disk.img`));
  expect(console).toContain(`ALLOCATED ${SIZE / 512} 512`);
  expect(console).toContain("FREE 0 0");
  expect(console).not.toContain("UNEXPECTED");
  expect(console.match(/^REFUSED: /gm)?.length).toBe(10);
}, 180_000);

test("verified direct and buffered I/O goes on through the server's kill -9 and restart, and nothing is lost", async () => {
  const common = "--bsrange=4k-64k --size=32M --randseed=7";
  const direct = `${common} --rw=randwrite --direct=1 --ioengine=libaio --iodepth=32`;
  const console = await run(`
    (sleep 1; echo KILL-SERVER) &
    ${fio(`${direct} --do_verify=1`)}
    echo DIRECT-DONE
    (sleep 1; echo KILL-SERVER) &
    ${fio(`${common} --offset=32M --rw=randwrite --ioengine=psync --fsync=8 --end_fsync=1 --do_verify=1`)}
    echo BUFFERED-DONE
    wait
    echo KILL-SERVER
    echo 3 > /proc/sys/vm/drop_caches
    ${fio(`${direct} --verify_only=1`)}
    echo VERIFIED-AGAIN
  `);
  expect(console.match(/KILL-SERVER/g)?.length).toBe(3);
  expect(console).toContain("VERIFIED-AGAIN");
}, 180_000);

test("reads, writes, mappings, truncations and syncs at random equal a model, over eight connections, through a kill -9", async () => {
  const half = SIZE / 2;
  const console = await run(
    `
      (sleep 3; echo KILL-SERVER) &
      $UML_DIR/exerciser /run/mnt/disk.img 0 ${4 * MIB} 11 12 ${original} &
      $UML_DIR/exerciser /run/mnt/disk.img ${half} ${4 * MIB} 12 12 ${original} > /run/other || { cat /run/other; exit 1; }
      cat /run/other
      wait
    `,
    "nconnect=8",
  );
  const operations = [...console.matchAll(/EXERCISED (\d+)/g)].map((match) => Number(match[1]));
  expect(operations.length).toBe(2);
  for (const count of operations) expect(count).toBeGreaterThan(10);
  expect(most(console, "CONNECTIONS")).toBeGreaterThanOrEqual(8);
}, 180_000);

test("writes that take longer than the client waits are sent again, and never meet newer ones", async () => {
  // Each place is written many times: an old write that was carried out again would be seen by its checksum.
  const again = "--rw=randwrite --bs=4k --size=256k --loops=5 --norandommap=0 --randseed=3 --serialize_overlap=1";
  const console = await run(
    `${fio(`${again} --direct=1 --ioengine=libaio --iodepth=32 --do_verify=1`)}\n echo VERIFIED`,
    "timeo=5,retrans=3,nconnect=2",
    { write: 1200 },
  );
  expect(console).toContain("VERIFIED");
  expect(most(console, "DUPLICATES")).toBeGreaterThan(20);
}, 180_000);

test("reads that wait for the repository are put off just before the client's timeout, and come in the end", async () => {
  const console = await run(
    `
      ${fio("--rw=write --bs=64k --size=4M --direct=1 --ioengine=libaio --iodepth=8 --do_verify=1")}
      echo READ-DONE
    `,
    "timeo=20,retrans=3",
    { read: 8000, readOf: 8, patience: 1200 },
  );
  expect(console).toContain("READ-DONE");
  expect(most(console, "PUT-OFF")).toBeGreaterThan(0);
}, 180_000);

test("a mount that reaches another restore's server for a while waits for its own, without an error", async () => {
  const console = await run(`
    dd if=/run/mnt/disk.img of=/dev/null bs=1M iflag=direct
    echo SWAP-SERVER
    sleep 1
    ls /run/mnt
    ${fio("--rw=randwrite --bs=4k --size=4M --direct=1 --ioengine=libaio --iodepth=8 --do_verify=1")}
    dd if=/run/mnt/disk.img of=/dev/null bs=1M iflag=direct
    echo WRITTEN
  `);
  expect(console).toContain("disk.img");
  expect(console).toContain("WRITTEN");
  expect(console).not.toMatch(/Stale|error/i);
}, 180_000);
test("a later mount takes over with its first write: the earlier one's writes fail at once, also those sent again, and nothing else is harmed", async () => {
  const options = "nfsvers=3,tcp,nolock,port=2049,mountport=2049,mountproto=tcp,hard";
  const write = (mount: string, what: string, more = ""): string =>
    `head -c 1M /dev/zero | tr '\\0' ${what} | dd of=${mount}/disk.img bs=64k iflag=fullblock conv=notrunc oflag=direct ${more}`;
  const console = await run(
    `
    ${write("/run/mnt", "a")}
    hostname second
    mkdir /run/second /run/third
    mount -t nfs -o ${options},nosharecache 10.77.0.1:${PATH} /run/second
    ${write("/run/mnt", "a", "seek=16")}
    echo SOURCE-WRITES-ON
    ${write("/run/second", "b")}
    echo TARGET-HAS-TAKEN-OVER
    begun=$(cut -d. -f1 /proc/uptime)
    if ${write("/run/mnt", "a")} 2> /run/why; then echo UNEXPECTED; fi
    grep -q 'Permission denied' /run/why && echo "DIRECT-REFUSED after $(($(cut -d. -f1 /proc/uptime) - begun)) s"
    if (head -c 1M /dev/zero | dd of=/run/mnt/disk.img bs=64k iflag=fullblock conv=notrunc,fsync) 2> /run/why; then echo UNEXPECTED; fi
    grep -q 'Permission denied' /run/why && echo "BUFFERED-REFUSED after $(($(cut -d. -f1 /proc/uptime) - begun)) s"
    dd if=/run/mnt/disk.img of=/run/read bs=64k count=1 iflag=direct
    head -c 1 /run/read | grep -q b && echo READS-WHAT-THE-OTHER-WROTE
    ${write("/run/second", "b", "seek=16")}
    echo KILL-SERVER
    sleep 1
    if ${write("/run/mnt", "a")} 2> /run/why; then echo UNEXPECTED; fi
    ${write("/run/second", "b", "seek=32")}
    echo RESTARTED
    # Back on the first node, whose kernel shares what it knows between this mount and the one from before.
    hostname first
    mount -t nfs -o ${options} 10.77.0.1:${PATH} /run/third
    ${write("/run/third", "c")}
    if ${write("/run/second", "b")} 2> /run/why; then echo UNEXPECTED; fi
    if ${write("/run/mnt", "a")} 2> /run/why; then echo UNEXPECTED; fi
    for at in 0 16 32; do dd if=/run/third/disk.img bs=64k skip=$at count=1 iflag=direct | head -c 1; done > /run/read
    echo "CONTENT $(cat /run/read)"
    umount /run/third /run/second
    `,
  );
  expect(console).not.toContain("UNEXPECTED");
  for (const seen of ["SOURCE-WRITES-ON", "TARGET-HAS-TAKEN-OVER", "READS-WHAT-THE-OTHER-WROTE", "RESTARTED"])
    expect(console).toContain(seen);
  // Far less than the client's timeout: it neither waits nor tries again.
  for (const kind of ["DIRECT", "BUFFERED"])
    expect(Number(new RegExp(`${kind}-REFUSED after (\\d+) s`).exec(console)?.[1])).toBeLessThan(30);
  expect(console).toContain("CONTENT cbb");
  expect(console).toMatch(/REFUSED \d+ of .*, second writes/);
  expect(console).toMatch(/REFUSED \d+ of second, first writes/);
}, 180_000);
