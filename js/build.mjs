/**
 * Builds the package into dist/ and the files of the static page into site/, which the Python package carries.
 *
 *   node build.mjs             both
 *   node build.mjs --site DIR  the page's files alone, elsewhere
 *   node build.mjs --dist DIR  the package alone, elsewhere
 *   node build.mjs --tests     the tests
 */
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

const here = new URL("./", import.meta.url).pathname;
const runtime = new URL("./", `file://${createRequire(import.meta.url).resolve("onnxruntime-web")}`).pathname;
/** They get the ending .js where they are used: many servers do not know .mjs. */
const RUNTIME = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const options = {
  bundle: true,
  format: "esm",
  target: ["chrome110", "firefox115", "safari16.4"],
  legalComments: "none",
  logLevel: "warning",
};
/** Imports that stay, of a file next to the bundle: the worker's runtime, which finds its wasm there, the page's package. */
const external = (filter, path) => ({
  name: path,
  setup: ({ onResolve }) => onResolve({ filter }, () => ({ path, external: true })),
});

async function bundles(folder) {
  for (const name of ["kpedge", "worker"]) {
    const entryPoints = [`${here}src/${name}.ts`];
    const plugins = [external(/^onnxruntime-web\/wasm$/, "./ort.wasm.min.js")];
    await build({ ...options, entryPoints, outfile: `${folder}/${name}.js`, minify: true, plugins });
  }
}

async function licences(folder) {
  const names = ["../NOTICE", "../LICENSE-weights.txt", "page/onnxruntime-LICENSE.txt", "../LICENSE"];
  const texts = await Promise.all(names.map((name) => readFile(`${here}${name}`, "utf8")));
  await writeFile(`${folder}/LICENSES.txt`, texts.join(`\n${"=".repeat(80)}\n\n`));
}

async function site(folder) {
  await mkdir(`${folder}/kpedge`, { recursive: true });
  await bundles(`${folder}/kpedge`);
  const plugins = [external(/src\/kpedge\.js$/, "./kpedge/kpedge.js")];
  await build({
    ...options,
    entryPoints: [`${here}page/page.ts`],
    outfile: `${folder}/page.js`,
    minify: true,
    plugins,
  });
  for (const name of ["index.html", "page.css", "icon.svg"]) await copyFile(`${here}page/${name}`, `${folder}/${name}`);
  await licences(folder);
  const { version } = JSON.parse(await readFile(`${runtime}../package.json`));
  const files = {};
  for (const name of RUNTIME)
    files[name] = createHash("sha256")
      .update(await readFile(runtime + name))
      .digest("hex");
  await writeFile(
    `${folder}/runtime.json`,
    `${JSON.stringify({ package: "onnxruntime-web", version, files }, null, 1)}\n`,
  );
}

/** A script of the runtime that names files by their endings here, and no source map: bundlers look for both. */
function forBundlers(script) {
  return `${script}`.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n").replace(/"(ort[\w.-]*)\.mjs"/g, '"$1.js"');
}

async function distribution(folder) {
  await bundles(folder);
  for (const name of RUNTIME) {
    const content = await readFile(runtime + name);
    await writeFile(`${folder}/${name.replace(".mjs", ".js")}`, name.endsWith(".mjs") ? forBundlers(content) : content);
  }
  await licences(folder);
  await mkdir(`${folder}/models`, { recursive: true });
  await copyFile(`${here}../export/stage3.onnx`, `${folder}/models/keypoints.onnx`);
  await copyFile(`${here}../export/detector.onnx`, `${folder}/models/detector.onnx`);
}

const [mode, argument] = process.argv.slice(2);
if (mode === "--site") await site(argument);
else if (mode === "--dist") await distribution(argument);
else if (mode === "--tests") {
  const names = (await readdir(`${here}tests`)).filter((name) => name.endsWith(".test.ts"));
  const entryPoints = names.map((name) => `${here}tests/${name}`);
  const outdir = `${here}build`;
  await rm(outdir, { recursive: true, force: true });
  const outExtension = { ".js": ".mjs" };
  await build({
    ...options,
    target: "node20",
    platform: "node",
    packages: "external",
    entryPoints,
    outdir,
    outExtension,
  });
} else {
  await distribution(`${here}dist`);
  await site(`${here}site`);
}
