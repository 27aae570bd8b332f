package alertmanager

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
)

// journaled is upstream state that tells of each change, for other Alertmanagers in a cluster; here a file takes it.
type journaled interface {
	SetBroadcast(func([]byte))
	Merge([]byte) error
	GC() (int, error)
	Snapshot(io.Writer) (int64, error)
}

// journal keeps upstream state so that kill -9 forgets nothing: a snapshot, as upstream writes it every quarter of an
// hour, and what came after it. Both are the same messages, each behind its length, so that files can be read one after
// the other. append may be called at once with rewrite.
type journal struct {
	path string
	of   journaled
	log  *slog.Logger

	mu   sync.Mutex
	file *os.File // path + ".journal"
}

// openJournal merges what was kept into of.
func openJournal(path string, of journaled, log *slog.Logger) (*journal, error) {
	for _, name := range []string{path, path + ".journal.old", path + ".journal"} {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = of.Merge(text[:whole(text)])
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w; move the file away to begin without it", name, err)
		}
	}
	j := &journal{path: path, of: of, log: log}
	if _, err := j.rewrite(); err != nil { // a message cut off at the end must not stand before others
		return nil, err
	}
	return j, nil
}

// whole is the length of the messages of a file that are complete: a power cut may leave a part of one.
func whole(text []byte) int {
	at := 0
	for {
		length, n := binary.Uvarint(text[at:])
		if n <= 0 || length > uint64(len(text)-at-n) {
			return at
		}
		at += n + int(length)
	}
}

// append returns when the message is on the disk. Upstream calls it with its lock held, before it says that anything is
// done.
func (j *journal) append(message []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.file.Write(message)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.log.Error("Alertmanager's journal cannot be written: a restart may notify again or forget a silence",
			"file", j.path, "err", err)
	}
}

// rewrite replaces snapshot and journal by a new snapshot and an empty journal. Whatever it is cut off at, all is in
// some file.
func (j *journal) rewrite() (int64, error) {
	if err := j.rotate(); err != nil {
		return 0, err
	}
	if _, err := j.of.GC(); err != nil {
		return 0, err
	}
	temporary, err := os.OpenFile(j.path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := j.of.Snapshot(temporary)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(j.path+".tmp", j.path); err != nil {
		return 0, err
	}
	return size, os.Remove(j.path + ".journal.old")
}

// rotate begins a new journal. Of an old one that is still there, and all of which is in the memory, a snapshot comes
// next.
func (j *journal) rotate() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	name := j.path + ".journal"
	if j.file != nil {
		_ = j.file.Close() // every write was synced
	}
	old, err := os.OpenFile(name+".old", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, old.Close())
	}
	_, err = old.Write(text[:whole(text)])
	if err = errors.Join(err, old.Sync(), old.Close()); err != nil {
		return err
	}
	j.file, err = os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	return err
}
