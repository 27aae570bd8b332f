package live

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
)

func measureCPU(ctx context.Context, s *sample) error {
	all, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(all) == 0 {
		return err
	}
	t := all[0]
	for _, mode := range []struct {
		name    string
		seconds float64
	}{
		{"user", t.User}, {"nice", t.Nice}, {"system", t.System}, {"idle", t.Idle}, {"iowait", t.Iowait},
		{"irq", t.Irq}, {"softirq", t.Softirq}, {"steal", t.Steal},
	} {
		s.total("host_cpu_seconds_total", "seconds", mode.seconds, "mode", mode.name)
	}
	count, err := cpu.CountsWithContext(ctx, true)
	if err != nil {
		return err
	}
	s.level("host_cpus", "", float64(count))
	return nil
}

func measureLoad(ctx context.Context, s *sample) error {
	average, err := load.AvgWithContext(ctx)
	if err != nil {
		return err
	}
	s.level("host_load1", "", average.Load1)
	s.level("host_load5", "", average.Load5)
	s.level("host_load15", "", average.Load15)
	misc, err := load.MiscWithContext(ctx)
	if err != nil {
		return err
	}
	s.level("host_processes_running", "", float64(misc.ProcsRunning))
	s.level("host_processes_blocked", "", float64(misc.ProcsBlocked))
	s.total("host_context_switches_total", "", float64(misc.Ctxt))
	s.total("host_forks_total", "", float64(misc.ProcsCreated))
	return nil
}

func measureMemory(ctx context.Context, s *sample) error {
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return err
	}
	bytes := func(name string, value uint64) { s.level(name, "bytes", float64(value)) }
	bytes("host_memory_total_bytes", memory.Total)
	bytes("host_memory_available_bytes", memory.Available)
	bytes("host_memory_used_bytes", memory.Used)
	bytes("host_memory_cached_bytes", memory.Cached)
	bytes("host_memory_buffers_bytes", memory.Buffers)
	swap, err := mem.SwapMemoryWithContext(ctx)
	if err != nil {
		return err
	}
	bytes("host_memory_swap_total_bytes", swap.Total)
	bytes("host_memory_swap_used_bytes", swap.Used)
	return nil
}

// measureFilesystems reports the root and every device once, at its shortest mount point: bind mounts of containers
// show the same device many times.
func measureFilesystems(ctx context.Context, s *sample) error {
	partitions, err := disk.PartitionsWithContext(ctx, false)
	if err != nil {
		return err
	}
	slices.SortFunc(partitions, func(a, b disk.PartitionStat) int {
		return cmp.Or(cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)), cmp.Compare(a.Mountpoint, b.Mountpoint))
	})
	if len(partitions) == 0 || partitions[0].Mountpoint != "/" {
		partitions = slices.Insert(partitions, 0, disk.PartitionStat{Device: "root", Mountpoint: "/"})
	}
	seen := map[string]bool{}
	var failed error
	for _, p := range partitions {
		if seen[p.Device] || len(seen) == maxParts {
			continue
		}
		seen[p.Device] = true
		usage, err := disk.UsageWithContext(ctx, p.Mountpoint)
		if err != nil {
			failed = err
			continue
		}
		at := []string{"device", text(p.Device), "mountpoint", text(p.Mountpoint)}
		s.level("host_filesystem_size_bytes", "bytes", float64(usage.Total), at...)
		s.level("host_filesystem_used_bytes", "bytes", float64(usage.Used), at...)
		s.level("host_filesystem_free_bytes", "bytes", float64(usage.Free), at...)
	}
	return failed
}

// measureDisks reports whole disks: what a partition moves, its disk moves too.
func measureDisks(ctx context.Context, s *sample) error {
	disks, err := disk.IOCountersWithContext(ctx)
	if err != nil {
		return err
	}
	var names []string
	for name := range disks {
		if _, partition := disks[whole(name)]; !partition && !strings.HasPrefix(name, "loop") && !strings.HasPrefix(name, "ram") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), maxParts)] {
		d, device := disks[name], []string{"device", text(name)}
		s.total("host_disk_reads_completed_total", "", float64(d.ReadCount), device...)
		s.total("host_disk_writes_completed_total", "", float64(d.WriteCount), device...)
		s.total("host_disk_read_bytes_total", "bytes", float64(d.ReadBytes), device...)
		s.total("host_disk_written_bytes_total", "bytes", float64(d.WriteBytes), device...)
		s.total("host_disk_io_time_seconds_total", "seconds", float64(d.IoTime)/1e3, device...)
	}
	return nil
}

// whole names the disk that a partition of this name would be on (sda of sda1, nvme0n1 of nvme0n1p2), "" for a disk.
func whole(name string) string {
	base := strings.TrimRight(name, "0123456789")
	if base == name {
		return ""
	}
	if rest, ok := strings.CutSuffix(base, "p"); ok {
		return rest
	}
	return base
}

// measureNetwork leaves out the container ends of virtual pairs, which come and go by the hundred.
func measureNetwork(ctx context.Context, s *sample) error {
	interfaces, err := net.IOCountersWithContext(ctx, true)
	if err != nil {
		return err
	}
	interfaces = slices.DeleteFunc(interfaces, func(i net.IOCountersStat) bool { return strings.HasPrefix(i.Name, "veth") })
	slices.SortFunc(interfaces, func(a, b net.IOCountersStat) int { return cmp.Compare(a.Name, b.Name) })
	for _, i := range interfaces[:min(len(interfaces), maxParts)] {
		device := []string{"device", text(i.Name)}
		s.total("host_network_receive_bytes_total", "bytes", float64(i.BytesRecv), device...)
		s.total("host_network_transmit_bytes_total", "bytes", float64(i.BytesSent), device...)
		s.total("host_network_receive_packets_total", "", float64(i.PacketsRecv), device...)
		s.total("host_network_transmit_packets_total", "", float64(i.PacketsSent), device...)
		s.total("host_network_receive_errors_total", "", float64(i.Errin), device...)
		s.total("host_network_transmit_errors_total", "", float64(i.Errout), device...)
		s.total("host_network_receive_drops_total", "", float64(i.Dropin), device...)
		s.total("host_network_transmit_drops_total", "", float64(i.Dropout), device...)
	}
	return nil
}

// text makes a label value of a name that the system or a user chose: UTF-8, not too long.
func text(name string) string {
	const most = 128
	name = strings.ToValidUTF8(name, "\uFFFD")
	if len(name) <= most {
		return name
	}
	cut := most
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut]
}
