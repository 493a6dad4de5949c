// Whether the dashboards have the types that Grafana's own packages say: `node types.mjs`.
//
// Grafana's types use TypeScript's enums, where JSON has plain text: L loosens them to their values. A dashboard with one
// thing wrong has to be refused, else the check proves nothing.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const dashboards = join(here, '..', 'dashboards');
const work = join(here, 'node_modules', '.types');
const head = `import type { Dashboard, DashboardCursorSync, DataSourceRef, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as Common from '@grafana/schema';
type L<T> = T extends string ? \`\${T}\` : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : T)
  : T extends (infer U)[] ? L<U>[] : T extends object ? { [K in keyof T]: L<T[K]> } : T;
`;
const options = ['--noEmit', '--skipLibCheck', '--strict', '--moduleResolution', 'bundler', '--module', 'esnext',
  '--target', 'es2022', '--lib', 'es2022,dom'];

/** What the options and the field configuration of each kind of panel are made of, checked panel by panel. */
const CUSTOM = {
  timeseries: ['Partial<Common.GraphFieldConfig>', '{ legend: Common.VizLegendOptions; tooltip: Omit<Common.VizTooltipOptions, "hideZeros"> }'],
  stat: ['never', 'Partial<Common.SingleStatBaseOptions> & { colorMode: Common.BigValueColorMode; graphMode: Common.BigValueGraphMode; justifyMode: Common.BigValueJustifyMode; textMode: Common.BigValueTextMode; wideLayout: boolean }'],
  bargauge: ['never', 'Partial<Common.SingleStatBaseOptions> & { displayMode: Common.BarGaugeDisplayMode; valueMode: Common.BarGaugeValueMode; namePlacement: Common.BarGaugeNamePlacement; showUnfilled: boolean; sizing: Common.BarGaugeSizing; minVizWidth: number; minVizHeight: number; maxVizHeight: number; legend: Partial<Common.VizLegendOptions> }'],
  table: ['Partial<Common.TableFieldOptions>', '{ cellHeight: Common.TableCellHeight; showHeader: boolean; sortBy: Common.TableSortByFieldState[] }'],
};

/** A dashboard less what belongs to the plugin of the data source, which Grafana's packages have no types for. */
function plain(dashboard) {
  const { annotations, templating, ...rest } = structuredClone(dashboard);
  annotations.list.forEach((it) => ['target', 'titleFormat', 'textFormat'].forEach((key) => delete it[key]));
  templating.list.forEach((it) => delete it.definition);
  return { ...rest, annotations, templating };
}

function text(dashboard) {
  const parts = [head, `export const dashboard: L<Dashboard> = ${JSON.stringify(plain(dashboard))};\n`];
  const panels = dashboard.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels : [panel]));
  panels.forEach((panel, number) => {
    const [custom, shape] = CUSTOM[panel.type];
    const config = panel.fieldConfig.defaults.custom;
    if (config) {
      parts.push(`export const custom${number}: L<${custom}> = ${JSON.stringify(config)}; // ${panel.title}\n`);
    }
    parts.push(`export const options${number}: L<${shape}> = ${JSON.stringify(panel.options)}; // ${panel.title}\n`);
  });
  return parts.join('');
}

/** What the compiler says of these texts; nothing when it is content. */
function faults(texts) {
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const files = Object.entries(texts).map(([name, content]) => {
    const file = join(work, `${name}.ts`);
    writeFileSync(file, content);
    return file;
  });
  try {
    execFileSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), ...options, ...files], { cwd: here });
    return '';
  } catch (error) {
    return String(error.stdout).split('\n').map((line) => line.slice(0, 400)).join('\n');
  }
}

const read = (file) => JSON.parse(readFileSync(join(dashboards, file), 'utf8'));
const files = readdirSync(dashboards).filter((file) => file.endsWith('.json'));
const found = faults(Object.fromEntries(files.map((file) => [file.replace('.json', ''), text(read(file))])));
if (found) {
  console.error(found);
  process.exit(1);
}

const breaks = {
  threshold: (it) => (it.panels[1].fieldConfig.defaults.thresholds.mode = 'absolut'),
  grid: (it) => (it.panels[1].gridPos.w = '4'),
  unknown: (it) => (it.panels[1].gridPoss = {}),
  text: (it) => (it.panels[1].options.textMode = 'names'),
  line: (it) => (it.panels.find((panel) => panel.type === 'timeseries').fieldConfig.defaults.custom.drawStyle = 'liness'),
};
const broken = Object.fromEntries(Object.entries(breaks).map(([name, spoil]) => {
  const dashboard = read('overview.json');
  spoil(dashboard);
  return [`broken-${name}`, text(dashboard)];
}));
const told = faults(broken);
for (const name of Object.keys(broken)) {
  if (!told.includes(`${name}.ts`)) {
    console.error(`types.mjs finds nothing in ${name}: it checks too little\n${told}`);
    process.exit(1);
  }
}
console.log(`${files.length} dashboards have Grafana's types`);
