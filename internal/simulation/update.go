package simulation

import (
	"github.com/vigie-io/vigie/internal/pipeline"
)

// updateStep replaces the version that wrote its rows for all tiers by the present one: its processes are stopped, the
// schema is migrated, and as many processes of the present one start. What was not stored yet is in the topic of results.
type updateStep struct{}

func parseUpdate(*statement) Step { return updateStep{} }

func (updateStep) String() string { return "update" }

func (updateStep) run(w *World) error {
	if !w.earlier {
		return nil
	}
	names := sortedKeys(w.processes)
	for _, name := range names {
		w.stop(name)
	}
	w.abandoned.Wait()
	w.Server.under.Wait()
	w.Server.migrate()
	w.earlier = false
	for _, name := range names {
		w.launch(name)
	}
	return nil
}

// version writes rows of the stream to the ingest table of a process's version.
func (p *process) version(messages []pipeline.Message) {
	for i := range messages {
		for j := range messages[i].Headers {
			if h := &messages[i].Headers[j]; h.Key == pipeline.HeaderTable && len(filledBy(string(h.Value))) > 0 {
				h.Value = []byte(pipeline.TablePanes)
				if p.earlier {
					h.Value = []byte(pipeline.TableRollups)
				}
			}
		}
	}
}
