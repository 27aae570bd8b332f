'use strict';
// Drives Grafana's own Prometheus client against a service: reads {url, key, scrapeSeconds, from, to (ms), metric …} from
// standard input, and prints what each step of the client gave.
const { open } = require('./stage.cjs');
const { lastValueFrom } = require('rxjs');
const { dateTime } = require('@grafana/data');
const { getQueryHints } = require('@grafana/prometheus');

const input = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const range = { from: dateTime(input.from), to: dateTime(input.to), raw: { from: dateTime(input.from), to: dateTime(input.to) } };

const panel = (targets) => ({
  app: 'dashboard', requestId: 'Q1', panelId: 1, dashboardUID: 'd', timezone: 'utc', range, rangeRaw: range.raw, scopedVars: {},
  interval: `${input.scrapeSeconds}s`, intervalMs: input.scrapeSeconds * 1000, maxDataPoints: 1000, startTime: Date.now(),
  targets: targets.map((t, i) => ({ refId: String.fromCharCode(65 + i), range: true, ...t })),
});

// ask runs a panel and tells its frames shortly.
async function ask(source, ...targets) {
  const response = await lastValueFrom(source.query(panel(targets)));
  return {
    error: response.error?.message,
    frames: response.data.map((frame) => ({
      refId: frame.refId, type: frame.meta?.type, show: frame.meta?.preferredVisualisationType,
      fields: frame.fields.map((f) => ({ name: f.name, labels: f.labels, values: Array.from(f.values) })),
    })),
  };
}

const texts = (list) => list.map((one) => one.text).sort();

async function main() {
  const { source, server } = open(input);
  const provider = source.languageProvider;
  await source.init();
  await source.loadRules();
  await provider.start(range);
  const out = {
    health: await source.testDatasource(),
    exemplars: source.exemplarsAvailable,
    rules: source.ruleMappings,
    metrics: provider.retrieveMetrics(),
    histograms: provider.retrieveHistogramMetrics(),
    labelKeys: provider.retrieveLabelKeys(),
    metadata: provider.retrieveMetricsMetadata(),
    keysOf: await provider.queryLabelKeys(range, `{__name__="${input.counter}"}`),
    valuesOf: await provider.queryLabelValues(range, input.label, input.counter),
    limited: await provider.queryLabelValues(range, '__name__', undefined, 1),
    tagKeys: texts(await source.getTagKeys({ filters: [], timeRange: range })),
    tagValues: texts(await source.getTagValues({ key: input.label, filters: [], timeRange: range })),
    find: {},
    hints: {},
  };
  for (const query of input.find) out.find[query] = texts(await source.metricFindQuery(query, { range }));
  for (const query of input.hinted) out.hints[query] = getQueryHints(query, [], source).map((hint) => `${hint.type}: ${hint.label}`);
  out.panel = await ask(source, { expr: input.panel, instant: true }); // and range
  out.gauge = await ask(source, { expr: input.gauge, exemplar: true });
  out.heatmap = await ask(source, { expr: input.heatmap, format: 'heatmap' });
  out.classic = await ask(source, { expr: input.classic, format: 'heatmap' });
  out.table = await ask(source, { expr: input.table, range: false, instant: true, format: 'table' });
  out.wrong = await ask(source, { expr: 'sum((' });
  out.calls = server.calls;

  // The same lists by the other ways that the data source may be set to.
  const gets = open(input, { httpMethod: 'GET' });
  out.get = { keys: await gets.source.languageProvider.queryLabelKeys(range), calls: gets.server.calls };
  const series = open(input, { seriesEndpoint: true });
  await series.source.languageProvider.start(range);
  out.series = { metrics: series.source.languageProvider.retrieveMetrics(), calls: series.server.calls };
  const search = open(input, { enableSearchApi: true });
  await search.source.languageProvider.start(range);
  out.search = { metrics: search.source.languageProvider.retrieveMetrics(), calls: search.server.calls };
  const incremental = open(input, { incrementalQuerying: true, incrementalQueryOverlapWindow: '2m' });
  out.first = await ask(incremental.source, { expr: input.panel });
  out.again = await ask(incremental.source, { expr: input.panel });
  return out;
}

main().then((out) => process.stdout.write(JSON.stringify(out)), (err) => {
  console.error(err);
  process.exitCode = 1;
});
