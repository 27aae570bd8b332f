import java.lang.management.ManagementFactory;
import java.util.concurrent.atomic.AtomicLong;

/** Counts, and what they cost: processor time is measured from a fifth of the records on, when the code is compiled. */
final class Meter {
    /** Tenant of the event that ends a partition. */
    static final String LAST = "closing";

    final long records;
    final AtomicLong read = new AtomicLong(), counted = new AtomicLong(), bad = new AtomicLong(), late = new AtomicLong(), results = new AtomicLong(), last = new AtomicLong();
    private volatile long warmRead, warmCpu, warmTime;

    Meter(long records) { this.records = records; }

    void record() {
        long n = read.incrementAndGet();
        if (n == records / 5) {
            warmCpu = cpu();
            warmTime = System.nanoTime();
            warmRead = n;
        }
    }

    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** One JSON object, as the Go peers print it: the processor time is scaled to all records. */
    void print() {
        double scale = (double) read.get() / (read.get() - warmRead);
        System.out.printf("{\"records\":%d,\"counted\":%d,\"bad\":%d,\"late\":%d,\"results\":%d,\"cpu\":%f,\"wall\":%f,\"resident\":%d}%n",
            read.get(), counted.get(), bad.get(), late.get(), results.get(), scale * (cpu() - warmCpu) / 1e9,
            scale * (System.nanoTime() - warmTime) / 1e9, resident());
    }

    private static long resident() {
        try {
            for (String line : java.nio.file.Files.readAllLines(java.nio.file.Path.of("/proc/self/status"))) {
                if (line.startsWith("VmHWM:")) {
                    return Long.parseLong(line.replaceAll("\\D", "")) << 10;
                }
            }
        } catch (java.io.IOException ignored) {
            // told as 0
        }
        return 0;
    }
}
