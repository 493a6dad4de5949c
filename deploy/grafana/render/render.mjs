// Draws the dashboards into PNGs: `node render.mjs --prometheus URL --out FOLDER [--minutes 10] [--scrape 1]
// [--suffix=-outage] [NAME...]`.
//
// Needs a Prometheus that scraped bridges under load, and chromium in PATH. Fails when a panel cannot be drawn; whether
// it can be read is for a person to see. Listens on loopback only.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const dashboards = join(here, '..', 'dashboards');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    prometheus: { type: 'string' }, out: { type: 'string' }, minutes: { type: 'string', default: '10' },
    scrape: { type: 'string', default: '10' }, suffix: { type: 'string', default: '' },
  },
});
if (!values.prometheus || !values.out) {
  console.error('give --prometheus URL and --out FOLDER');
  process.exit(64);
}

/** Grafana's modules are plain JavaScript, whatever their names end in; one default export comes wrapped. */
const peculiarities = {
  name: 'grafana',
  setup(build) {
    build.onLoad({ filter: /@grafana\/.*\.mjs$/ }, ({ path }) => ({ contents: readFileSync(path, 'utf8'), loader: 'js' }));
    build.onResolve({ filter: /^react-custom-scrollbars-2$/ }, ({ importer, pluginData }) => (pluginData === 'inner'
      ? undefined : { path: 'react-custom-scrollbars-2', namespace: 'unwrapped', pluginData: importer }));
    build.onLoad({ filter: /.*/, namespace: 'unwrapped' }, () => ({
      contents: 'const m = require("react-custom-scrollbars-2-inner"); const it = m.default?.default ?? m.default ?? m; export default it; export const Scrollbars = m.Scrollbars ?? it;',
      resolveDir: here, loader: 'js',
    }));
    build.onResolve({ filter: /^react-custom-scrollbars-2-inner$/ }, () => build.resolve('react-custom-scrollbars-2', {
      kind: 'require-call', resolveDir: here, pluginData: 'inner',
    }));
  },
};
const bundle = await build({
  entryPoints: [join(here, 'page.jsx')], bundle: true, format: 'iife', write: false, outdir: here, logLevel: 'error', jsx: 'automatic',
  loader: { '.svg': 'dataurl', '.ttf': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl' },
  define: { global: 'window', 'process.env.NODE_ENV': '"production"' }, plugins: [peculiarities],
});
const made = (end) => bundle.outputFiles.find(({ path }) => path.endsWith(end)).text;
const [script, styles] = [made('.js'), made('.css')];

let current;
const server = createServer(async (request, response) => {
  const give = (type, text) => response.writeHead(200, { 'content-type': type }).end(text);
  if (request.url.startsWith('/api/v1/')) {
    const answer = await fetch(new URL(request.url, values.prometheus));
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
  } else if (request.url === '/page.js') {
    give('text/javascript', script);
  } else if (request.url === '/page.css') {
    give('text/css', styles);
  } else if (request.url === '/dashboard.json') {
    give('application/json', readFileSync(join(dashboards, `${current}.json`)));
  } else if (request.url.startsWith('/?')) {
    give('text/html', '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/page.css"><div id="root"></div><script src="/page.js"></script>');
  } else {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const to = Math.floor(Date.now() / 1000);
const from = to - Number(values.minutes) * 60;
const page = `http://127.0.0.1:${server.address().port}/?from=${from}&to=${to}&scrape=${values.scrape}`;
const chromium = (size, ...words) => new Promise((done, failed) => {
  const profile = mkdtempSync(join(tmpdir(), 'linxo-dashboards-'));
  execFile('chromium', [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--disable-dev-shm-usage', `--user-data-dir=${profile}`,
    `--window-size=1416,${size}`, '--virtual-time-budget=30000', '--timeout=60000', ...words, page,
  ], { maxBuffer: 256 * 1024 * 1024 }, (error, stdout) => {
    rmSync(profile, { recursive: true, force: true });
    error ? failed(error) : done(stdout);
  });
});

mkdirSync(values.out, { recursive: true });
const names = positionals.length ? positionals : readdirSync(dashboards).map((file) => basename(file, '.json'));
let faults = 0;
for (const name of names) {
  current = name;
  const dom = await chromium(1000, '--dump-dom');
  const height = dom.match(/<title>height (\d+)/)?.[1];
  const titles = JSON.parse(readFileSync(join(dashboards, `${name}.json`), 'utf8'))
    .panels.flatMap((panel) => (panel.type === 'row' ? panel.panels : [panel])).length;
  const drawn = dom.match(/data-panel=/g)?.length ?? 0;
  const empty = [...dom.matchAll(/data-panel="([^"]*)" data-empty="true"/g)].map((match) => match[1]);
  if (!height || drawn !== titles) {
    console.error(`${name}: ${drawn} of ${titles} panels were drawn: ${dom.replace(/<[^>]*>/g, ' ').slice(0, 800)}`);
    faults += 1;
    continue;
  }
  const png = join(values.out, `dashboard-${name}${values.suffix}.png`);
  await chromium(Number(height), `--screenshot=${png}`);
  try {
    // a palette is enough, and a quarter of the size
    execFileSync('pngquant', ['--force', '--output', png, '64', png]);
  } catch {
    console.error('pngquant is missing: the picture stays large');
  }
  console.log(`${name}: ${drawn} panels, ${Math.round(statSync(png).size / 1024)} kB; empty: ${empty.join(', ') || 'none'}`);
}
server.close();
process.exit(faults ? 1 : 0);
