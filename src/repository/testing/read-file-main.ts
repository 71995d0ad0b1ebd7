import { LocalBackend } from "../backends/local.ts";
import { Repository } from "../repository.ts";
import { openFile, readRange } from "./read-range.ts";

/**
 * A process that does nothing but read a file of a snapshot to standard output, and closes nothing: it must neither end before
 * it is done nor stay afterwards. Arguments: directory, password, snapshot, path.
 */
const [directory = "", password = "", snapshot = "", path = ""] = process.argv.slice(2);

const repository = await Repository.open(new LocalBackend(directory), password);
const file = await openFile(repository, snapshot, path);
process.stdout.write(await readRange(repository, file, 0, file.size));
