import { buffer } from "node:stream/consumers";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { WholeReplies } from "./whole-replies.ts";

function reply(content: Uint8Array): Buffer {
  const mark = Buffer.alloc(4);
  mark.writeUInt32BE((0x80000000 | content.length) >>> 0);
  return Buffer.concat([mark, content]);
}

test("whole replies pass unchanged, however they are cut; one that breaks off does not pass", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }),
      fc.uint8Array({ minLength: 1, maxLength: 100 }),
      fc.nat(),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      async (contents, last, kept, cuts) => {
        const whole = Buffer.concat(contents.map(reply));
        const broken = reply(last);
        const sent = Buffer.concat([whole, broken.subarray(0, kept % broken.length)]);
        const filter = new WholeReplies();
        const passed = buffer(filter);
        let at = 0;
        for (let index = 0; at < sent.length; index++) {
          const to = at + (cuts[index % cuts.length] as number);
          filter.write(sent.subarray(at, to));
          at = to;
        }
        filter.end();
        expect((await passed).equals(whole)).toBe(true);
      },
    ),
  );
});

test("what claims to be longer than any reply is no NFS server's", async () => {
  const filter = new WholeReplies();
  const passed = buffer(filter);
  filter.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]));
  await expect(passed).rejects.toThrow("bytes");
});
