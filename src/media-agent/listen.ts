import type { Server } from "node:http";

/** Listens; resolves with a function that closes the server and its connections. Rejects where it cannot listen. */
export async function listen(server: Server, address: string, port: number): Promise<() => Promise<void>> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
}
