// Package notify sends the alerts that the stream has written to its topic to Alertmanagers.
//
// Its main type is Notifier: it reads the alerts of a Source, remembers which fire, and sends each to every
// Alertmanager at once when it changes, again and again while it fires, and after its end until it is sure to have been
// heard. Sending is at least once; Alertmanager takes alerts with the same labels and start for the same. One
// Alertmanager that is slow or down does not hold up another.
//
// It keeps no state of its own: a Source gives a new owner of a partition all of its records again. It groups, silences
// and routes nothing: that is Alertmanager's.
package notify
