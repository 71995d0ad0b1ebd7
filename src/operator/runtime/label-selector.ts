/** Whether labels meet a selector of the two forms that the operator uses: `key` (there is one) and `key=value`, comma between. */
export function matchesLabels(
  labels: Readonly<Record<string, string>> | undefined,
  selector: string | undefined,
): boolean {
  if (selector === undefined || selector === "") return true;
  return selector.split(",").every((part) => {
    const equals = part.indexOf("=");
    if (equals < 0) return labels?.[part] !== undefined;
    return labels?.[part.slice(0, equals)] === part.slice(equals + 1);
  });
}
