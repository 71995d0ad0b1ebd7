/** What a path of the API is about: `/apis/GROUP/VERSION[/namespaces/NS]/RESOURCE[/NAME[/SUBRESOURCE]]`. */
export interface RequestInfo {
  readonly group: string;
  readonly version: string;
  /** "" for all namespaces, and for cluster-scoped resources. */
  readonly namespace: string;
  readonly resource: string;
  /** "" for the collection. */
  readonly name: string;
  readonly subresource: string;
}

/**
 * Takes a resource path apart. `namespaces/NS` is a prefix, except for the namespace's own object and its status and
 * finalize subresources.
 *
 * @returns undefined where the path is of another kind (`/version`) or not well formed
 */
export function parseResourcePath(path: string): RequestInfo | undefined {
  const parts = decodeParts(path);
  if (parts === undefined) return undefined;
  let rest: string[];
  let group = "";
  if (parts[0] === "api") rest = parts.slice(1);
  else if (parts[0] === "apis") {
    group = parts[1] ?? "";
    if (group === "") return undefined;
    rest = parts.slice(2);
  } else return undefined;
  const version = rest.shift();
  if (version === undefined || rest.length === 0) return undefined;
  let namespace = "";
  if (rest[0] === "namespaces" && rest.length > 2 && rest[2] !== "status" && rest[2] !== "finalize") {
    namespace = rest[1] ?? "";
    rest = rest.slice(2);
  }
  const [resource = "", name = "", subresource = "", ...more] = rest;
  if (resource === "" || more.length > 0) return undefined;
  return { group, version, namespace, resource, name, subresource };
}

function decodeParts(path: string): string[] | undefined {
  try {
    return path
      .split("/")
      .filter((part) => part !== "")
      .map(decodeURIComponent);
  } catch {
    return undefined;
  }
}
