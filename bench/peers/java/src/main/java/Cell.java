import com.datadoghq.sketch.ddsketch.DDSketch;
import com.datadoghq.sketch.ddsketch.DDSketches;
import com.datadoghq.sketch.ddsketch.encoding.ByteArrayInput;
import com.datadoghq.sketch.ddsketch.encoding.GrowingByteArrayOutput;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** What is known of a series in a window. */
class Cell {
    /** Of windows, and how far their ends are behind the newest event; milliseconds of event time. */
    static final long SIZE = 10_000, DELAY = 5_000;

    static final double ALPHA = 0.0054;

    long count;
    double sum;
    double min = Double.POSITIVE_INFINITY;
    double max = Double.NEGATIVE_INFINITY;
    DDSketch sketch = DDSketches.unboundedDense(ALPHA);

    void add(double v) {
        count++;
        sum += v;
        min = Math.min(min, v);
        max = Math.max(max, v);
        sketch.accept(v);
    }

    void merge(Cell other) {
        count += other.count;
        sum += other.sum;
        min = Math.min(min, other.min);
        max = Math.max(max, other.max);
        sketch.mergeWith(other.sketch);
    }

    void set(Cell other) {
        count = other.count;
        sum = other.sum;
        min = other.min;
        max = other.max;
        sketch = other.sketch.copy();
    }

    String json(String series, long start) {
        double[] q = sketch.getValuesAtQuantiles(new double[] {0.5, 0.95, 0.99});
        return "{\"series\":\"" + series.replace("\\", "\\\\").replace("\"", "\\\"").replace("\0", "\\u0000").replace("\1", "\\u0001")
            + "\",\"start\":" + start + ",\"count\":" + count + ",\"sum\":" + sum + ",\"min\":" + min + ",\"max\":" + max
            + ",\"quantiles\":[" + q[0] + "," + q[1] + "," + q[2] + "]}";
    }

    /** For state stores and their change logs. */
    static final class CellSerde implements Serializer<Cell>, Deserializer<Cell> {
        static final CellSerde INSTANCE = new CellSerde();

        static Serde<Cell> serde() { return Serdes.serdeFrom(INSTANCE, INSTANCE); }

        public void configure(Map<String, ?> configs, boolean isKey) {}

        public byte[] serialize(String topic, Cell c) {
            if (c == null) {
                return null;
            }
            GrowingByteArrayOutput out = GrowingByteArrayOutput.withDefaultInitialCapacity();
            try {
                c.sketch.encode(out, false);
            } catch (IOException e) {
                throw new IllegalStateException(e);
            }
            ByteBuffer b = ByteBuffer.allocate(32 + out.numWrittenBytes());
            b.putLong(c.count).putDouble(c.sum).putDouble(c.min).putDouble(c.max).put(out.backingArray(), 0, out.numWrittenBytes());
            return b.array();
        }

        public Cell deserialize(String topic, byte[] bytes) {
            if (bytes == null) {
                return null;
            }
            Cell c = new Cell();
            read(bytes, c);
            return c;
        }

        /** Makes c, which is new, what was serialized. */
        void read(byte[] bytes, Cell c) {
            ByteBuffer b = ByteBuffer.wrap(bytes);
            c.count = b.getLong();
            c.sum = b.getDouble();
            c.min = b.getDouble();
            c.max = b.getDouble();
            try {
                c.sketch.decodeAndMergeWith(ByteArrayInput.wrap(bytes, 32, bytes.length - 32));
            } catch (IOException e) {
                throw new IllegalStateException(e);
            }
        }

        public void close() {}
    }
}
