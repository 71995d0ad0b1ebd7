import { badRequest } from "../status-error.ts";

type Labels = { readonly [key: string]: string };
type Requirement = (labels: Labels) => boolean;

/** `a`, `!a`, `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a>1`, `a<1`, joined by commas. */
const TERM =
  /^\s*(?:(?<not>!)\s*(?<absent>[\w./-]+)|(?<key>[\w./-]+)(?:\s+(?<set>in|notin)\s*\((?<values>[^)]*)\)|\s*(?<operator>==|=|!=|>|<)\s*(?<value>[\w.-]*))?)\s*(?:,|$)/;

/**
 * A label selector as it stands in a query.
 *
 * @throws StatusError BadRequest
 */
export function parseLabelSelector(text: string): Requirement {
  const requirements: Requirement[] = [];
  let rest = text;
  while (rest.trim() !== "") {
    const match = TERM.exec(rest);
    if (match?.groups === undefined) throw badRequest(`unable to parse requirement: ${text}`);
    requirements.push(requirementOf(match.groups));
    rest = rest.slice(match[0].length);
  }
  return (labels) => requirements.every((requirement) => requirement(labels));
}

function requirementOf(groups: Record<string, string | undefined>): Requirement {
  const { absent, key = "", set, values = "", operator, value = "" } = groups;
  if (absent !== undefined) return (labels) => !Object.hasOwn(labels, absent);
  const has = (labels: Labels) => Object.hasOwn(labels, key);
  if (set !== undefined) {
    const wanted = new Set(values.split(",").map((item) => item.trim()));
    const isIn = (labels: Labels) => has(labels) && wanted.has(labels[key] ?? "");
    return set === "in" ? isIn : (labels) => !isIn(labels);
  }
  switch (operator) {
    case undefined:
      return has;
    case "!=":
      return (labels) => !has(labels) || labels[key] !== value;
    case ">":
      return (labels) => has(labels) && Number(labels[key]) > Number(value);
    case "<":
      return (labels) => has(labels) && Number(labels[key]) < Number(value);
    default:
      return (labels) => has(labels) && labels[key] === value;
  }
}
