// Package grafana plays Grafana's part in tests, which has no server that a test could start: it reads dashboards, and
// fills in variables and macros as Grafana's Prometheus and ClickHouse datasources do before they send a query. Its
// main types are Board and View; Client runs Grafana's own Prometheus client in Node. It draws nothing.
package grafana
