import com.hazelcast.config.Config;
import com.hazelcast.core.Hazelcast;
import com.hazelcast.core.HazelcastInstance;
import com.hazelcast.jet.Job;
import com.hazelcast.jet.Util;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.aggregate.AggregateOperation1;
import com.hazelcast.jet.config.JobConfig;
import com.hazelcast.jet.config.ProcessingGuarantee;
import com.hazelcast.jet.core.JobStatus;
import com.hazelcast.jet.kafka.KafkaSinks;
import com.hazelcast.jet.kafka.KafkaSources;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.WindowDefinition;
import com.hazelcast.nio.ObjectDataInput;
import com.hazelcast.nio.ObjectDataOutput;
import com.hazelcast.nio.serialization.StreamSerializer;
import java.io.IOException;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Hazelcast Jet, Pipeline API, a snapshot a second, exactly once. Its input has no end: the last event of each partition, which
 * stands half a minute behind the others, closes the windows, and is itself in none that closes.
 */
final class Jet {
    private static Meter meter; // of this process, which all of the job runs in

    public static void main(String[] args) throws Exception {
        String brokers = args[0], topic = args[1], results = args[2];
        meter = new Meter(Long.parseLong(args[3]));
        Config config = new Config();
        config.setProperty("hazelcast.logging.type", "none");
        config.setProperty("hazelcast.phone.home.enabled", "false");
        config.getJetConfig().setEnabled(true).setCooperativeThreadCount(1);
        config.getNetworkConfig().getJoin().getAutoDetectionConfig().setEnabled(false);
        config.getNetworkConfig().getJoin().getMulticastConfig().setEnabled(false);
        config.getNetworkConfig().getInterfaces().setEnabled(true).addInterface("127.0.0.1");
        HazelcastInstance hazelcast = Hazelcast.newHazelcastInstance(config);

        Properties consumer = new Properties();
        consumer.setProperty("bootstrap.servers", brokers);
        consumer.setProperty("key.deserializer", StringDeserializer.class.getName());
        consumer.setProperty("value.deserializer", ByteArrayDeserializer.class.getName());
        consumer.setProperty("auto.offset.reset", "earliest");
        consumer.setProperty("max.poll.records", "5000");
        Properties producer = new Properties();
        producer.setProperty("bootstrap.servers", brokers);
        producer.setProperty("key.serializer", StringSerializer.class.getName());
        producer.setProperty("value.serializer", StringSerializer.class.getName());
        producer.setProperty("compression.type", "lz4");
        producer.setProperty("transaction.timeout.ms", "600000");

        Pipeline p = Pipeline.create();
        p.readFrom(KafkaSources.<String, byte[], Event>kafka(consumer, Jet::parse, topic))
            .withTimestamps(e -> e.time, Cell.DELAY)
            .setLocalParallelism(1)
            .groupingKey(e -> e.key)
            .window(WindowDefinition.tumbling(Cell.SIZE))
            .aggregate(cells())
            .map(r -> {
                meter.counted.addAndGet(r.getValue().count);
                meter.results.incrementAndGet();
                return Util.entry(r.getKey(), r.getValue().json(r.getKey(), r.start()));
            })
            .writeTo(KafkaSinks.<java.util.Map.Entry<String, String>>kafka(producer).topic(results).extractKeyFn(e -> e.getKey()).extractValueFn(e -> e.getValue())
                .exactlyOnce(true).build());
        JobConfig job = new JobConfig().setProcessingGuarantee(ProcessingGuarantee.EXACTLY_ONCE).setSnapshotIntervalMillis(1000)
            .registerSerializer(Cell.class, CellSerializer.class);
        Job running = hazelcast.getJet().newJob(p, job);
        while (meter.counted.get() + meter.bad.get() + meter.last.get() + late(running) < meter.records) {
            if (running.getStatus() == JobStatus.FAILED) {
                running.join();
            }
            Thread.sleep(200);
        }
        meter.late.set(late(running));
        meter.counted.addAndGet(meter.last.get());
        running.suspend(); // with a last snapshot, which commits
        while (running.getStatus() != JobStatus.SUSPENDED) {
            Thread.sleep(10);
        }
        meter.print();
        Runtime.getRuntime().halt(0);
    }

    private static long late(Job job) {
        return job.getMetrics().get("lateEventsDropped").stream().mapToLong(m -> m.value()).sum();
    }

    /** The event of a record; null, which Jet leaves out, when it is none. */
    private static Event parse(ConsumerRecord<String, byte[]> record) {
        meter.record();
        Event e = Event.parse(record.value());
        if (e == null) {
            meter.bad.incrementAndGet();
        } else if (e.key.startsWith(Meter.LAST)) {
            meter.last.incrementAndGet();
        }
        return e;
    }

    private static AggregateOperation1<Event, Cell, Cell> cells() {
        return AggregateOperation.withCreate(Cell::new)
            .andAccumulate((Cell c, Event e) -> c.add(e.value))
            .andCombine((Cell a, Cell b) -> a.merge(b))
            .andExportFinish(c -> c);
    }

    /** For snapshots. */
    public static final class CellSerializer implements StreamSerializer<Cell> {
        @Override
        public int getTypeId() { return 1; }

        @Override
        public void write(ObjectDataOutput out, Cell c) throws IOException { out.writeByteArray(Cell.CellSerde.INSTANCE.serialize("", c)); }

        @Override
        public Cell read(ObjectDataInput in) throws IOException { return Cell.CellSerde.INSTANCE.deserialize("", in.readByteArray()); }
    }
}
