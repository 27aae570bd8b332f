import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.CopyableValue;

/** Flink, DataStream API, state on the heap, a checkpoint a second, exactly once. The source is bounded: the end of the input closes all windows. */
final class Flink {
    private static final OutputTag<Event> LATE = new OutputTag<>("late") {};
    private static Meter meter; // of this process, which all of the job runs in

    public static void main(String[] args) throws Exception {
        String brokers = args[0], topic = args[1], results = args[2];
        meter = new Meter(Long.parseLong(args[3]));
        Configuration c = new Configuration();
        c.set(PipelineOptions.OBJECT_REUSE, true);
        c.set(PipelineOptions.GENERIC_TYPES, false);
        c.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(64));
        c.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem"); // the default keeps 5 MB of state at most, and fails above
        c.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, Path.of(args[4]).toUri().toString());
        c.set(RestartStrategyOptions.RESTART_STRATEGY, "disable"); // what fails has to show
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1, c);
        env.enableCheckpointing(1000, CheckpointingMode.EXACTLY_ONCE);
        KafkaSource<Event> source = KafkaSource.<Event>builder()
            .setBootstrapServers(brokers).setTopics(topic).setGroupId(topic + ".flink." + System.nanoTime())
            .setStartingOffsets(OffsetsInitializer.earliest()).setBounded(OffsetsInitializer.latest())
            .setValueOnlyDeserializer(new Parser())
            .setProperty("max.poll.records", "5000").build();
        Properties producer = new Properties();
        producer.setProperty("compression.type", "lz4");
        producer.setProperty("transaction.timeout.ms", "600000");
        KafkaSink<String> sink = KafkaSink.<String>builder()
            .setBootstrapServers(brokers).setKafkaProducerConfig(producer)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(topic + ".flink." + System.nanoTime())
            .setRecordSerializer(KafkaRecordSerializationSchema.builder().setTopic(results).setValueSerializationSchema(new SimpleStringSchema()).build())
            .build();
        SingleOutputStreamOperator<String> windows = env
            .fromSource(source, WatermarkStrategy.<Event>forBoundedOutOfOrderness(Duration.ofMillis(Cell.DELAY)).withTimestampAssigner((e, t) -> e.time), "events")
            .keyBy(e -> e.key, TypeInformation.of(String.class))
            .window(TumblingEventTimeWindows.of(Duration.ofMillis(Cell.SIZE)))
            .sideOutputLateData(LATE)
            .aggregate(new Cells(), new Results(), TypeInformation.of(State.class), TypeInformation.of(State.class), TypeInformation.of(String.class));
        windows.sinkTo(sink);
        windows.getSideOutput(LATE).map(e -> {
            meter.late.incrementAndGet();
            return 0;
        }).returns(TypeInformation.of(Integer.class)).sinkTo(new DiscardingSink<>());
        env.execute();
        meter.print();
        System.exit(0);
    }

    /** What is no event is left out. */
    public static final class Parser extends AbstractDeserializationSchema<Event> {
        @Override
        public Event deserialize(byte[] json) {
            meter.record();
            Event e = Event.parse(json);
            if (e == null) {
                meter.bad.incrementAndGet();
            }
            return e;
        }
    }

    /** A cell that Flink knows how to copy and to write. */
    public static final class State extends Cell implements CopyableValue<State> {
        @Override
        public void write(DataOutputView out) throws IOException {
            byte[] bytes = CellSerde.INSTANCE.serialize("", this);
            out.writeInt(bytes.length);
            out.write(bytes);
        }

        @Override
        public void read(DataInputView in) throws IOException {
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            CellSerde.INSTANCE.read(bytes, this);
        }

        @Override
        public int getBinaryLength() { return -1; }

        @Override
        public void copyTo(State to) { to.set(this); }

        @Override
        public State copy() {
            State to = new State();
            to.set(this);
            return to;
        }

        @Override
        public void copy(DataInputView from, DataOutputView to) throws IOException {
            int n = from.readInt();
            to.writeInt(n);
            to.write(from, n);
        }
    }

    public static final class Cells implements AggregateFunction<Event, State, State> {
        @Override
        public State createAccumulator() { return new State(); }

        @Override
        public State add(Event e, State s) {
            s.add(e.value);
            return s;
        }

        @Override
        public State getResult(State s) { return s; }

        @Override
        public State merge(State a, State b) { throw new UnsupportedOperationException("windows do not merge"); }
    }

    public static final class Results extends ProcessWindowFunction<State, String, String, TimeWindow> {
        @Override
        public void process(String key, Context context, Iterable<State> one, Collector<String> out) {
            for (State s : one) {
                meter.counted.addAndGet(s.count);
                meter.results.incrementAndGet();
                out.collect(s.json(key, context.window().getStart()));
            }
        }
    }
}
