/** A list whose entries have names, each once. */
export const byName = { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] };
