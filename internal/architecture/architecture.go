// Package architecture holds the test that keeps the import graph as ARCHITECTURE.md draws it. It has no code.
package architecture
