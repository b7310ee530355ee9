// Every document of the page must be valid against the exported schema, and in
// use: the schema moves, and nothing else would notice before a user does.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { buildSchema, parse, validate } from 'graphql';

const root = join(import.meta.dirname, '..');
const read = (path) => readFileSync(join(root, path), 'utf8');

const schema = buildSchema(read('../schema.graphql'));
const files = readdirSync(join(root, 'src'), { recursive: true }).map((file) => join('src', file));
const documents = files.filter((file) => file.endsWith('.graphql'));
const sources = files.filter((file) => /\.tsx?$/.test(file)).map(read);

const problems = documents.flatMap((file) => {
  const found = errorsIn(file).map((error) => `${file}: ${error}`);
  if (!sources.some((source) => source.includes(`/${basename(file)}?raw'`))) {
    found.push(`${file}: no module imports it`);
  }
  return found;
});

function errorsIn(file) {
  try {
    return validate(schema, parse(read(file)));
  } catch (syntaxError) {
    return [syntaxError];
  }
}

if (documents.length === 0) {
  problems.push('src: no documents found');
}
for (const problem of problems) {
  console.error(problem);
}
console.log(`${documents.length} documents checked, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
