import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.Arrays;

/** An event as Jackson's streaming parser finds it. Flink wants its fields public, or it does not know how to send it. */
public final class Event {
    private static final JsonFactory FACTORY = new JsonFactory();

    public String key;
    public long time;
    public double value;

    /** The event of a record, or null when it is none. */
    static Event parse(byte[] json) {
        Event e = new Event();
        String tenant = "", name = null;
        boolean hasValue = false;
        String[] labels = new String[16];
        int n = 0;
        try (JsonParser p = FACTORY.createParser(json)) {
            if (p.nextToken() != JsonToken.START_OBJECT) {
                return null;
            }
            while (p.nextToken() == JsonToken.FIELD_NAME) {
                String field = p.currentName();
                p.nextToken();
                switch (field) {
                    case "tenant" -> tenant = p.getText();
                    case "time" -> e.time = p.getLongValue();
                    case "name" -> name = p.getText();
                    case "value" -> {
                        e.value = p.getDoubleValue();
                        hasValue = true;
                    }
                    case "labels" -> {
                        while (p.nextToken() == JsonToken.FIELD_NAME) {
                            String label = p.currentName();
                            if (n == labels.length) {
                                labels = Arrays.copyOf(labels, 2 * n);
                            }
                            labels[n++] = label + '\1' + p.nextTextValue();
                        }
                    }
                    default -> p.skipChildren();
                }
            }
            if (p.currentToken() != JsonToken.END_OBJECT) {
                return null;
            }
        } catch (IOException bad) {
            return null;
        }
        if (name == null || !hasValue || e.time == 0) {
            return null;
        }
        Arrays.sort(labels, 0, n);
        StringBuilder key = new StringBuilder(160).append(tenant).append('\0').append(name);
        for (int i = 0; i < n; i++) {
            key.append('\0').append(labels[i]);
        }
        e.key = key.toString();
        return e;
    }
}
