/**
 * That `field` is there where `chooser` says `value`, and only there, as a CEL rule. An API server puts it to the test on the default `{}`
 * too, before the chooser's own default is filled in: hence the first `has()`.
 */
export function belongsTo(field: string, chooser: string, value: string) {
  const message = `\`${field}\` belongs to \`${chooser}: ${value}\``;
  const rule = `(has(self.${chooser}) && self.${chooser} == '${value}') == has(self.${field})`;
  return { "x-kubernetes-validations": [{ rule, message }] };
}
