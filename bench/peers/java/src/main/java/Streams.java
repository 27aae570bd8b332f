import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams, processor API: the tenant is the record's key and part of the series, so nothing is repartitioned. */
final class Streams {
    public static void main(String[] args) throws Exception {
        String brokers = args[0], topic = args[1], results = args[2];
        Meter meter = new Meter(Long.parseLong(args[3]));
        CountDownLatch done = new CountDownLatch(1);
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, topic + ".streams." + System.nanoTime());
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 768L << 20);
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        p.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 5000);
        p.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4");
        Topology topology = new Topology();
        topology.addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), topic);
        topology.addProcessor("windows", () -> new Windows(meter, done), "events");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("open"), Serdes.String(), Cell.CellSerde.serde()).withCachingEnabled(), "windows");
        topology.addSink("results", results, Serdes.String().serializer(), Serdes.String().serializer(), "windows");
        KafkaStreams streams = new KafkaStreams(topology, p);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
        done.await();
        streams.close(Duration.ofSeconds(60)); // commits
        meter.print();
    }

    /** Windows are kept under start and series, so that those that are over stand together. */
    private static final class Windows implements Processor<String, byte[], String, String> {
        private final Meter meter;
        private final CountDownLatch done;
        private ProcessorContext<String, String> context;
        private KeyValueStore<String, Cell> open;
        private long newest, closed, lastStart = -1;
        private String lastPrefix;

        Windows(Meter meter, CountDownLatch done) {
            this.meter = meter;
            this.done = done;
        }

        public void init(ProcessorContext<String, String> context) {
            this.context = context;
            open = context.getStateStore("open");
            // What the end of the input leaves open is closed when nothing has come for a while.
            context.schedule(Duration.ofSeconds(1), PunctuationType.WALL_CLOCK_TIME, now -> {
                if (meter.read.get() >= meter.records) {
                    close(Long.MAX_VALUE);
                    if (meter.counted.get() + meter.bad.get() + meter.late.get() >= meter.records) {
                        done.countDown();
                    }
                }
            });
        }

        public void process(Record<String, byte[]> record) {
            meter.record();
            Event e = Event.parse(record.value());
            if (e == null) {
                meter.bad.incrementAndGet();
                return;
            }
            long start = e.time - e.time % Cell.SIZE;
            if (start + Cell.SIZE <= closed) {
                meter.late.incrementAndGet();
                return;
            }
            if (start != lastStart) {
                lastStart = start;
                lastPrefix = prefix(start);
            }
            String key = lastPrefix + e.key;
            Cell cell = open.get(key);
            if (cell == null) {
                cell = new Cell();
            }
            cell.add(e.value);
            open.put(key, cell);
            if (e.time > newest) {
                newest = e.time;
                long over = newest - Cell.DELAY;
                if (over - over % Cell.SIZE > closed) {
                    close(over - over % Cell.SIZE);
                }
            }
        }

        private static String prefix(long start) { return String.format("%016x", start); }

        private void close(long until) {
            List<String> gone = new ArrayList<>();
            try (KeyValueIterator<String, Cell> all = open.range(null, prefix(until))) {
                while (all.hasNext()) {
                    KeyValue<String, Cell> next = all.next();
                    long start = Long.parseLong(next.key.substring(0, 16), 16);
                    if (start + Cell.SIZE > until) {
                        break;
                    }
                    String series = next.key.substring(16);
                    context.forward(new Record<>(series, next.value.json(series, start), start));
                    meter.counted.addAndGet(next.value.count);
                    meter.results.incrementAndGet();
                    gone.add(next.key);
                }
            }
            gone.forEach(open::delete);
            closed = Math.max(closed, until);
        }
    }
}
