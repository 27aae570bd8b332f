'use strict';
// What Grafana is to its data source, without Grafana: the browser's globals, nothing where its user interface would be,
// and the calls that its server makes on behalf of the browser. @grafana/data, @grafana/runtime and @grafana/prometheus
// are the published packages.
const Module = require('node:module');

// Anything of a package of the user interface: it can be called, made, and asked for any property.
function nothing(name) {
  return new Proxy(function () {}, {
    get: (target, key) => {
      if (key === 'then') return undefined; // not a promise
      if (key === '__esModule') return true;
      if (key === 'prototype') return target.prototype;
      if (key === Symbol.toPrimitive) return () => name;
      return nothing(`${name}.${String(key)}`);
    },
    apply: () => nothing(`${name}()`),
    construct: () => nothing(`new ${name}`),
  });
}

const packages = Object.keys(require('./package.json').overrides).concat('@grafana/assistant');
const load = Module._load;
Module._load = function (request, ...rest) {
  return packages.some((p) => request === p || request.startsWith(p + '/')) ? nothing(request) : load.call(this, request, ...rest);
};

const kept = new Map();
globalThis.localStorage = {
  getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, String(value)), removeItem: (key) => kept.delete(key),
};
globalThis.window = globalThis;
globalThis.location = new URL('http://grafana.invalid/');
globalThis.navigator ??= { userAgent: 'node', language: 'en' };
globalThis.addEventListener ??= () => {};
globalThis.grafanaBootData = { assets: { dark: '', light: '' }, settings: { buildInfo: { version: '13.2.3', env: 'production' }, featureToggles: {} }, user: {}, navTree: [] };
console.log = console.info = console.warn = console.error; // standard output is for the result

const { Observable, from } = require('rxjs');
const runtime = require('@grafana/runtime');

// Server is what Grafana's server does for a Prometheus data source.
class Server {
  constructor(url, key, scrapeSeconds) {
    Object.assign(this, { url, key, scrapeSeconds, calls: [] });
  }

  // ask sends one request to the service, and notes it.
  async ask(method, path, params, headers = {}) {
    const form = new URLSearchParams();
    for (const [name, value] of Object.entries(params ?? {})) {
      for (const one of [value].flat()) if (one !== undefined && one !== null) form.append(name, one);
    }
    const get = method === 'GET';
    const response = await fetch(`${this.url}/${path}${get && form.size ? '?' + form : ''}`, {
      method, body: get ? undefined : form,
      headers: { ...headers, Authorization: `Bearer ${this.key}`, ...(get ? {} : { 'Content-Type': 'application/x-www-form-urlencoded' }) },
    });
    this.calls.push(`${method} ${decodeURIComponent(path)} ${response.status}`);
    return response;
  }

  // fetch is what @grafana/runtime calls: resources are passed on, queries and health checks are made of several calls.
  fetch(options) {
    const resource = options.url.match(/^\/api\/datasources\/uid\/[^/]+\/resources\/+(.*)$/);
    if (resource) return from(this.resource(options, resource[1]));
    if (options.url.endsWith('/health')) return from(this.health());
    if (options.url.startsWith('/api/ds/query')) return from(this.query(options));
    throw new Error(`Grafana's server is not asked for ${options.url} here`);
  }

  async resource(options, path) {
    const response = await this.ask(options.method, path, options.method === 'GET' ? options.params : options.data);
    const data = await response.json();
    const result = { data, status: response.status, statusText: response.statusText, ok: response.ok, headers: response.headers, config: options };
    if (!response.ok) throw result;
    return result;
  }

  // chunked is how search results are read as they come.
  chunked(options) {
    const path = options.url.replace(/^\/?api\/datasources\/uid\/[^/]+\/resources\/+/, '');
    return new Observable((out) => {
      this.ask(options.method ?? 'GET', path, options.params).then(async (response) => {
        const about = { ok: response.ok, status: response.status, statusText: response.statusText, headers: response.headers, config: options };
        for await (const data of response.body) out.next({ ...about, data });
        out.next({ ...about, data: undefined });
        out.complete();
      }).catch((err) => out.error(err));
    });
  }

  async health() {
    const result = await this.ask('POST', 'api/v1/query', { query: '1+1', time: '4' });
    const build = await this.ask('GET', 'api/v1/status/buildinfo');
    const { data } = await build.json();
    const ok = result.ok && build.ok && !data.features; // features mean Mimir
    return { ok, status: ok ? 200 : 400, data: { status: ok ? 'OK' : 'ERROR', message: `Prometheus ${data.version}` } };
  }

  async query(options) {
    const { queries, from: begin, to } = options.data;
    const results = {};
    for (const q of queries) results[q.refId] = await this.one(q, Number(begin) / 1000, Number(to) / 1000);
    return { data: { results }, status: 200, statusText: 'OK', ok: true, headers: new Headers(), config: options };
  }

  async one(q, begin, end) {
    const step = Math.max(this.scrapeSeconds, Math.ceil(q.intervalMs / 1000));
    const query = q.expr.replaceAll('$__rate_interval', `${Math.max(step + this.scrapeSeconds, 4 * this.scrapeSeconds)}s`).replaceAll('$__interval', `${step}s`);
    const [path, params] = q.instant ? ['query', { query, time: end }]
      : ['query_range', { query, start: Math.floor(begin / step) * step, end: Math.floor(end / step) * step, step }];
    const response = await this.ask('POST', `api/v1/${path}`, params);
    const answer = await response.json();
    if (answer.status !== 'success') return { status: response.status, error: `${answer.errorType}: ${answer.error}`, frames: [] };
    const frames = framesOf(answer.data, q);
    if (q.exemplar) {
      const exemplars = await (await this.ask('POST', 'api/v1/query_exemplars', { query, start: begin, end })).json();
      if (exemplars.status !== 'success' || exemplars.data.length) throw new Error(`exemplars: got ${JSON.stringify(exemplars)}`);
    }
    return { status: 200, frames };
  }
}

// framesOf makes the frames of Grafana's server: one a series, or one a series and native histogram with rows of buckets.
function framesOf({ resultType, result }, q) {
  if (resultType === 'scalar') return [numbers({}, [result], resultType, q)];
  return result.map((series) => {
    const histograms = series.histograms ?? (series.histogram ? [series.histogram] : undefined);
    return histograms ? cells(series.metric, histograms) : numbers(series.metric, series.values ?? [series.value], resultType, q);
  });
}

function numbers(labels, points, resultType, q) {
  return {
    schema: {
      refId: q.refId, meta: { type: 'timeseries-multi', custom: { resultType } },
      fields: [{ name: 'Time', type: 'time', typeInfo: { frame: 'time.Time' } }, { name: labels.__name__ ?? 'Value', type: 'number', typeInfo: { frame: 'float64' }, labels }],
    },
    data: { values: [points.map((p) => p[0] * 1000), points.map((p) => Number(p[1]))] },
  };
}

function cells(labels, points) {
  const columns = [[], [], [], []];
  for (const [time, histogram] of points) {
    for (const [, low, high, count] of histogram.buckets ?? []) {
      [time * 1000, Number(low), Number(high), Number(count)].forEach((value, i) => columns[i].push(value));
    }
  }
  const names = ['xMax', 'yMin', 'yMax', 'count'];
  return {
    schema: { meta: { type: 'heatmap-cells' }, fields: names.map((name, i) => ({ name, type: i ? 'number' : 'time', labels })) },
    data: { values: columns },
  };
}

// open returns the data source as a panel has it, connected with the service.
function open({ url, key, scrapeSeconds }, jsonData = {}) {
  const server = new Server(url, key, scrapeSeconds);
  runtime.setBackendSrv(server);
  runtime.setEchoSrv({ addEvent() {}, addBackend() {}, flush() {} });
  const templates = {
    replace: (text, scoped = {}) => (text ?? '').replace(/\$\{?(\w+)\}?/g, (all, name) => scoped[name]?.value ?? all),
    getAdhocFilters: () => [], getVariables: () => [], containsTemplate: () => false, updateTimeRange() {},
  };
  runtime.setTemplateSrv(templates);
  const { PrometheusDatasource } = require('@grafana/prometheus');
  const source = new PrometheusDatasource({
    id: 1, uid: 'vigie-promql', type: 'prometheus', name: 'Vigie', access: 'proxy', url: '/api/datasources/proxy/uid/vigie-promql', meta: { id: 'prometheus' },
    jsonData: { httpMethod: 'POST', prometheusType: 'Prometheus', prometheusVersion: '3.0.0', timeInterval: `${scrapeSeconds}s`, ...jsonData },
  }, templates);
  return { source, server };
}

module.exports = { open };
