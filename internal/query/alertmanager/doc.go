// Package alertmanager passes the alerts of tenants on: to Alertmanagers elsewhere, or to upstream's own packages in
// this process, one instance a tenant, with their API. It is the one door to github.com/prometheus/alertmanager.
//
// Its main types are External and Embedded. It evaluates no rules and authenticates nobody. An embedded Alertmanager
// knows no other process: who wants several, runs them apart and names their addresses.
package alertmanager
