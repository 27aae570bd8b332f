package pipeline

// Committed says that what was drained last is in the log for good, and withProgress whether progress was with it.
func (t *Task) Committed(withProgress bool) {
	for _, e := range t.announcing {
		e.announced, e.announcedNative = uint32(max(t.drained/1000, 1)), e.native
	}
	clear(t.announcing)
	t.announcing = t.announcing[:0]
	if withProgress {
		t.published = max(t.published, t.publishing)
		for _, tn := range t.tenants {
			tn.published = tn.newest
		}
	}
	t.settleState(true)
	t.settleLimits(true)
	t.takeLimits()
	if idle := t.cfg.Config.SeriesIdle.Milliseconds(); t.drained-t.swept >= idle/4 || t.drained < t.swept {
		t.swept = t.drained
		t.sweep(idle)
	}
}

// Forget returns to the last committed epoch: everything since is dropped, drained or not, and announced series count
// as not announced. The records will come again, here or elsewhere.
func (t *Task) Forget() {
	for _, tn := range t.dirty {
		for _, g := range tn.dirty {
			for _, ref := range g.dirty {
				tn.table.At(ref).cell.form = unused
			}
			g.dirty = g.dirty[:0]
		}
		clear(tn.dirty)
		tn.dirty, tn.marked, tn.late = tn.dirty[:0], false, 0
	}
	clear(t.announcing)
	t.announcing = t.announcing[:0]
	t.settleState(false)
	t.settleLimits(false)
	t.takeLimits()
	t.reach.Through = 0
	t.empty()
}

// takeLimits puts the limits in force that hold now.
func (t *Task) takeLimits() {
	limits := t.cfg.Limits()
	if limits == t.limits {
		return
	}
	t.limits = limits
	for _, tn := range t.tenants {
		tn.bound(limits, &t.decoders)
		tn.limited = 0
	}
	t.windows.Bound(limits)
	t.rates.replace(limits)
}

// empty forgets what a drain took, or an abort dropped.
func (t *Task) empty() {
	clear(t.dirty)
	t.dirty, t.epoch = t.dirty[:0], gathered{}
	for i, tn := range t.exceeding {
		tn.beyond, t.exceeding[i] = beyond{}, nil
	}
	t.exceeding = t.exceeding[:0]
	t.cells.reset()
	t.lists.reset()
	t.sketches.reset()
	t.histograms.reset()
	t.merging.reset()
	clear(t.scattered)
	clear(t.letters)
	t.letters, t.letterBytes = t.letters[:0], 0
	t.letterRows.forget()
	t.tally = Tally{}
}

// sweep forgets series and tenants that have been silent for idle milliseconds. Nothing is dirty when it runs. What was
// last heard of in the future was so before the clock was set back, and counts as heard of now.
func (t *Task) sweep(idle int64) {
	for name, tn := range t.tenants {
		var gone bool
		tn.table.Range(func(ref uint32) bool {
			e := tn.table.At(ref)
			e.touched = min(e.touched, t.drained)
			if t.drained-e.touched < idle {
				return true
			}
			class := e.class - 1
			t.key = tn.table.AppendKey(t.key[:0], ref)
			tn.bytes -= namesBytes(t.key, tn.class(e).about)
			tn.table.Delete(t.key)
			t.leave(tn, class)
			gone = true
			return true
		})
		if gone {
			tn.repeats.Forget(func(ref uint32) bool { return tn.table.At(ref).class == 0 })
		}
		tn.seen = min(tn.seen, t.drained)
		if tn.table.Len() == 0 && t.drained-tn.seen >= idle {
			delete(t.tenants, name)
			(*watermarks)(t).rest(tn)
			t.alerts.Rest(name)
			t.current, t.claims = nil, claims{}
		}
	}
	(*watermarks)(t).forget()
	t.rates.sweep(t.drained, idle)
}
