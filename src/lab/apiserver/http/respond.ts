import type { ServerResponse } from "node:http";
import type { JsonValue } from "../json.ts";

export function sendJson(
  response: ServerResponse,
  status: number,
  value: JsonValue,
  contentType = "application/json",
): void {
  sendBytes(response, status, Buffer.from(JSON.stringify(value)), contentType);
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  sendBytes(response, status, Buffer.from(text), "text/plain; charset=utf-8");
}

export function sendBytes(response: ServerResponse, status: number, bytes: Buffer, contentType: string): void {
  response.writeHead(status, { "content-type": contentType, "content-length": bytes.length });
  response.end(bytes);
}
