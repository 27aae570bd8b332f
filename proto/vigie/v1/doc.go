// Package vigiev1 is what protoc-gen-go makes of events.proto, for producers in Go that like generated types.
//
// Its main type is Events, one record's value. Vigie itself does not use it: package events reads and writes the same
// bytes without reflection, and its tests hold the two against each other.
package vigiev1
