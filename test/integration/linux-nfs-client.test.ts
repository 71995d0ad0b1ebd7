import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { runInUml } from "../uml/run-in-uml.ts";

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const PATH = "/0123456789abcdef0123456789abcdef";

let state: string;
let server: string[];

beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), "overlay-"));
  server = [process.execPath, join(import.meta.dirname, "../uml/serve-overlay.ts"), state, PATH, String(SIZE)];
});

afterEach(() => rm(state, { recursive: true, force: true }));

test("a Linux kernel mounts the export and sees one disk of 107:107, fully allocated, with no space free", async () => {
  const console = await runInUml({
    exportPath: PATH,
    server,
    script: `
      ls -ln /run/mnt
      stat -c 'ALLOCATED %b %B' /run/mnt/disk.img
      stat -f -c 'FREE %f %a' /run/mnt
      chown 107:107 /run/mnt/disk.img
      chmod 0660 /run/mnt/disk.img
      ! touch /run/mnt/other 2>/dev/null
      ! rm -f /run/mnt/disk.img 2>/dev/null
      head -c 100 /run/mnt/disk.img | sha256sum
    `,
  });
  expect(console).toMatch(new RegExp(`-rw-rw----\\s+1\\s+107\\s+107\\s+${SIZE}.*disk.img`));
  expect(console).toContain(`ALLOCATED ${SIZE / 512} 512`);
  expect(console).toContain("FREE 0 0");
}, 120_000);

test("verified direct and buffered I/O goes on through the server's kill -9 and restart, and nothing is lost", async () => {
  const fio =
    "fio --name=x --filename=/run/mnt/disk.img --bs=4k-64k --bsrange=4k-64k --size=32M --verify=crc32c --verify_fatal=1 --allow_file_create=0 --randseed=7 --output-format=terse --terse-version=3";
  const console = await runInUml({
    exportPath: PATH,
    server,
    script: `
      (sleep 1; echo KILL-SERVER) &
      ${fio} --rw=randwrite --direct=1 --ioengine=libaio --iodepth=16 --do_verify=1 > /run/direct || { cat /run/direct; exit 1; }
      echo DIRECT-DONE
      (sleep 1; echo KILL-SERVER) &
      ${fio} --offset=32M --rw=randwrite --direct=0 --ioengine=psync --fsync=8 --end_fsync=1 --do_verify=1 > /run/buffered || { cat /run/buffered; exit 1; }
      echo BUFFERED-DONE
      wait
      echo KILL-SERVER
      echo 3 > /proc/sys/vm/drop_caches
      ${fio} --rw=randwrite --direct=1 --ioengine=libaio --iodepth=16 --verify_only=1 > /run/again || { cat /run/again; exit 1; }
      echo VERIFIED-AGAIN
    `,
  });
  expect(console.match(/KILL-SERVER/g)?.length).toBe(3);
  expect(console).toContain("VERIFIED-AGAIN");
}, 180_000);
