import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { customResourceDefinition } from "../src/api/custom-resource-definition.ts";
import { GROUP } from "../src/api/group.ts";
import { RESOURCE_KINDS } from "../src/api/resource-kinds.ts";

// Writes crds/ from src/api. With --check it writes nothing, and fails where crds/ is not what it would write.

const directory = join(import.meta.dirname, "../crds");
const files = new Map(
  RESOURCE_KINDS.map((kind) => [
    `${GROUP}_${kind.plural}.yaml`,
    `# Generated from src/api by scripts/generate-crds.ts\n${stringify(customResourceDefinition(kind), { lineWidth: 0, aliasDuplicateObjects: false })}`,
  ]),
);

if (process.argv.includes("--check")) {
  const present = await readdir(directory);
  const drifted = present.filter((name) => !files.has(name));
  for (const [name, text] of files) {
    if (!present.includes(name) || (await readFile(join(directory, name), "utf8")) !== text) drifted.push(name);
  }
  if (drifted.length > 0) {
    process.stderr.write(`crds/ is not what src/api says (${drifted.join(", ")}): run \`make crds\`\n`);
    process.exitCode = 1;
  }
} else {
  await mkdir(directory, { recursive: true });
  for (const [name, text] of files) await writeFile(join(directory, name), text);
}
