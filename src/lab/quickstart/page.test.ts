import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "@jest/globals";
import { textOf, waitForPage } from "./page.ts";

test("a page is what it says, without its tags", () => {
  expect(textOf("<h1>It\n works</h1> <p>still</p>")).toBe("It works still");
});

test("a question that hangs does not keep a later one from being answered", async () => {
  // Answers only while another question hangs: whoever waits for the one before asking the next never hears.
  const hanging = new Set<ServerResponse>();
  const server = createServer((_, response) => {
    if (hanging.size > 0) response.end("<b>up</b>");
    else {
      hanging.add(response);
      response.once("close", () => hanging.delete(response));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const end = new AbortController();
  try {
    const { port } = server.address() as AddressInfo;
    expect(await waitForPage(async () => `127.0.0.1:${port}`, end.signal)).toBe("up");
  } finally {
    end.abort();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
