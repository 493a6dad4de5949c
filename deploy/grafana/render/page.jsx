// Draws one dashboard with the components of Grafana's own packages, from what Prometheus answers.
//
// It is not Grafana: variables are all set to everything, and rows are open. The registries that the application fills
// are filled here, else units, colours and thresholds would be ignored in silence.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import {
  FieldConfigProperty, FieldType, Registry, ThemeContext, applyFieldOverrides, createDataFrame, createTheme, dateTime,
  displayNameOverrideProcessor, getDisplayValueAlignmentFactors, getFieldDisplayValues, identityOverrideProcessor, numberOverrideProcessor,
  selectOverrideProcessor, standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry,
  thresholdsOverrideProcessor, transformDataFrame, unitOverrideProcessor, valueMappingsOverrideProcessor,
  dataLinksOverrideProcessor, stringOverrideProcessor,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { lastValueFrom } from 'rxjs';

const WIDTH = 1400;
const GAP = 8;
const ROW = 38;
const TITLE = 36;
const theme = createTheme({ colors: { mode: 'dark' } });
const parameters = new URLSearchParams(location.search);
const to = Number(parameters.get('to'));
const from = Number(parameters.get('from'));
const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: dateTime(from * 1000), to: dateTime(to * 1000) } };

// --- what the application would have filled ---------------------------------------------------------------------------

const standard = [
  ['displayName', displayNameOverrideProcessor], ['unit', unitOverrideProcessor], ['min', numberOverrideProcessor],
  ['max', numberOverrideProcessor], ['decimals', numberOverrideProcessor], ['noValue', stringOverrideProcessor],
  ['color', identityOverrideProcessor], ['thresholds', thresholdsOverrideProcessor],
  ['mappings', valueMappingsOverrideProcessor], ['links', dataLinksOverrideProcessor],
].map(([id, process]) => ({
  id, path: id, name: id, description: '', editor: () => null, override: () => null, process, shouldApply: () => true,
}));
standardFieldConfigEditorRegistry.setInit(() => standard);
const custom = [
  'drawStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'spanNulls', 'lineInterpolation', 'lineStyle', 'pointSize',
  'stacking', 'axisPlacement', 'axisLabel', 'thresholdsStyle', 'scaleDistribution', 'gradientMode', 'hideFrom', 'barAlignment', 'axisSoftMax',
  'align', 'cellOptions', 'width', 'filterable', 'inspect',
].map((id) => ({
  id: `custom.${id}`, path: `custom.${id}`, name: id, description: '', isCustom: true, editor: () => null,
  override: () => null, process: identityOverrideProcessor, shouldApply: () => true,
}));
// paths of custom properties are below `custom` already
custom.forEach((property) => { property.path = property.path.replace('custom.', ''); });
const registry = new Registry(() => [...standard, ...custom]);
standardTransformersRegistry.setInit(() => {
  const seen = new Set();
  return Object.values(standardTransformers).filter((it) => !seen.has(it.id) && seen.add(it.id)).map((it) => ({
    id: it.id, name: it.name, description: it.description, transformation: async () => it, editor: () => null,
  }));
});

// --- Prometheus -------------------------------------------------------------------------------------------------------

const step = Math.max(1, Math.ceil((to - from) / 400));
const scrape = Number(parameters.get('scrape') ?? 10);
function resolved(text) {
  const values = {
    $__rate_interval: `${Math.max(step + scrape, 4 * scrape)}s`, $__range: `${to - from}s`, $job: '.+', $instance: '.+',
    '${runbook}': 'https://runbook.example/linxo-bridge',
  };
  return Object.entries(values).reduce((done, [name, value]) => done.replaceAll(name, value), text);
}
const legend = (format, labels) => (format
  ? format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '')
  : Object.entries(labels).map(([label, value]) => `${label}="${value}"`).join(', ') || 'Value');
// a ratio of nothing is no value
const number = (text) => (text === 'NaN' ? null : Number(text.replace('Inf', 'Infinity')));

async function ask(target) {
  const query = encodeURIComponent(resolved(target.expr));
  const path = target.instant ? `query?time=${to}` : `query_range?start=${from}&end=${to}&step=${step}`;
  const answer = await (await fetch(`/api/v1/${path}&query=${query}`)).json();
  if (answer.status !== 'success') {
    throw new Error(`${target.expr}: ${answer.error}`);
  }
  return answer.data.result;
}

async function frames(target) {
  const series = await ask(target);
  if (target.format === 'table') {
    const labels = [...new Set(series.flatMap((it) => Object.keys(it.metric)))].sort();
    return [createDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: series.map((it) => it.value[0] * 1000) },
        ...labels.map((name) => ({ name, type: FieldType.string, values: series.map((it) => it.metric[name] ?? '') })),
        { name: target.several ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: series.map((it) => number(it.value[1])) },
      ],
    })];
  }
  return series.map((it) => {
    const points = target.instant ? [it.value] : it.values;
    const displayNameFromDS = legend(target.legendFormat, it.metric);
    // where Prometheus says nothing a line has a gap
    const at = new Map(points.map(([time, value]) => [time, number(value)]));
    const times = target.instant ? points.map(([time]) => time) : Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, n) => from + n * step);
    return createDataFrame({
      refId: target.refId,
      name: displayNameFromDS,
      fields: [
        { name: 'Time', type: FieldType.time, values: times.map((time) => time * 1000), config: { interval: step * 1000 } },
        { name: 'Value', type: FieldType.number, labels: it.metric, config: { displayNameFromDS }, values: times.map((time) => at.get(time) ?? null) },
      ],
    });
  });
}

async function data(panel) {
  const several = panel.targets.length > 1;
  const asked = await Promise.all(panel.targets.map((target) => frames({ ...target, several })));
  let all = asked.flat();
  if (panel.transformations) {
    all = await lastValueFrom(transformDataFrame(panel.transformations, all));
  }
  return applyFieldOverrides({
    data: all, fieldConfig: panel.fieldConfig, replaceVariables: resolved, theme, timeZone: 'utc', fieldConfigRegistry: registry,
  });
}

// --- panels -----------------------------------------------------------------------------------------------------------

function Values({ panel, data, width, height, draw }) {
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: resolved, theme, data,
    sparkline: panel.options.graphMode === 'area', timeZone: 'utc',
  });
  return (
    <VizRepeater getValues={() => values} renderValue={draw} getAlignmentFactors={getDisplayValueAlignmentFactors} source={data} width={width} height={height}
      orientation={panel.type === 'stat' ? 'auto' : panel.options.orientation} renderCounter={0} itemSpacing={4} />
  );
}

const kinds = {
  timeseries: ({ panel, data, width, height }) => (
    <TimeSeries frames={data} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={panel.options} />
  ),
  stat: (props) => (
    <Values {...props} draw={({ value, width, height }) => (
      <BigValue value={value.display} sparkline={value.sparkline} width={width} height={height} theme={theme}
        colorMode={props.panel.options.colorMode} graphMode={props.panel.options.graphMode}
        justifyMode={props.panel.options.justifyMode} textMode={value.display.title && props.panel.options.textMode === 'name' && !value.display.text.startsWith('no') ? 'name' : 'value'} />
    )} />
  ),
  bargauge: (props) => (
    <Values {...props} draw={({ value, width, height, alignmentFactors }) => (
      <BarGauge value={value.display} width={width} height={height} theme={theme} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
        text={value.display.text} orientation={props.panel.options.orientation} displayMode={props.panel.options.displayMode}
        alignmentFactors={alignmentFactors} showUnfilled={props.panel.options.showUnfilled} valueDisplayMode={props.panel.options.valueMode}
        namePlacement={props.panel.options.namePlacement} itemSpacing={4} />
    )} />
  ),
  table: ({ panel, data, width, height }) => <Table data={data[0]} width={width} height={height} initialSortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} enablePagination={false} />,
};

function Panel({ panel, found }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (WIDTH + GAP) / 24;
  const style = { position: 'absolute', left: x * column, top: y * ROW, width: w * column - GAP, height: h * ROW - GAP };
  if (panel.type === 'row') {
    return <h4 style={{ ...style, margin: 0, paddingTop: 4 }}>{panel.title}</h4>;
  }
  const Kind = kinds[panel.type];
  const is_empty = found.every((frame) => frame.length === 0);
  return (
    <div style={style} data-panel={panel.title} data-empty={is_empty}>
      <PanelChrome title={panel.title} description={panel.description} width={style.width} height={style.height} padding="sm">
        {(width, height) => (is_empty && panel.type === 'timeseries'
          ? <div style={{ opacity: 0.6, textAlign: 'center', paddingTop: height / 3 }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>
          : <Kind panel={panel} data={found} width={width} height={height} />)}
      </PanelChrome>
    </div>
  );
}

async function main() {
  const dashboard = await (await fetch('/dashboard.json')).json();
  const panels = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  const found = await Promise.all(panels.map((panel) => (panel.type === 'row' ? [] : data(panel))));
  const bottom = Math.max(...panels.map(({ gridPos }) => (gridPos.y + gridPos.h) * ROW));
  document.body.style.cssText = `margin: 0; width: ${WIDTH + 2 * GAP}px; overflow: hidden; background: ${theme.colors.background.canvas}`;
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <MemoryRouter>
        <div style={{ position: 'relative', margin: GAP, height: bottom }}>
          {panels.map((panel, place) => <Panel key={panel.id} panel={panel} found={found[place]} />)}
        </div>
      </MemoryRouter>
    </ThemeContext.Provider>,
  );
  document.title = `height ${bottom + 2 * GAP}`;
}

main().catch((error) => {
  document.body.innerText = `FAILED ${error.stack}`;
  document.title = 'failed';
});
