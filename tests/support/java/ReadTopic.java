import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic as a stranger would, who has only Kafka's client, Avro's decoder and the schemas: committed records from
 * the beginning to the end, one line of JSON each, the value in Avro's JSON encoding (a union's branch is named).
 *
 * <p>Arguments: bootstrap servers, topic, then {@code schemas FOLDER} for values in single-object encoding, their schema
 * found by fingerprint among the folder's .avsc files, or {@code registry URL} for Confluent framing.
 */
public final class ReadTopic {
    /** Where the schema of a value is found, given the value's head, which it takes off. */
    private interface Schemas {
        Schema of(ByteBuffer value) throws Exception;
    }

    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Schemas schemas = switch (arguments[2]) {
            case "schemas" -> singleObject(Path.of(arguments[3]));
            case "registry" -> registry(arguments[3]);
            default -> throw new IllegalArgumentException("neither schemas nor registry: " + arguments[2]);
        };
        Map<String, Object> settings = Map.of(
                ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
                ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
                ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false,
                ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, 10);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
                var out = new PrintStream(System.out, false, StandardCharsets.UTF_8)) {
            List<TopicPartition> partitions = consumer.partitionsFor(arguments[1]).stream()
                    .map(partition -> new TopicPartition(partition.topic(), partition.partition()))
                    .collect(Collectors.toList());
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    out.println(JSON.writeValueAsString(describe(record, schemas)));
                }
            }
        }
    }

    private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record, Schemas schemas) throws Exception {
        var node = JSON.createObjectNode();
        node.put("partition", record.partition());
        node.put("offset", record.offset());
        node.put("timestamp", record.timestamp());
        node.put("key", record.key() == null ? null : new String(record.key(), StandardCharsets.UTF_8));
        var headers = node.putObject("headers");
        for (var header : record.headers()) {
            headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
        }
        if (record.value() == null) {
            node.putNull("value");
        } else {
            var value = ByteBuffer.wrap(record.value());
            var schema = schemas.of(value);
            node.put("schema", schema.getFullName());
            node.set("value", JSON.readTree(asJson(schema, value)));
        }
        return node;
    }

    /** The rest of the value as JSON; bytes left over are a fault. */
    private static byte[] asJson(Schema schema, ByteBuffer value) throws IOException {
        var decoder = DecoderFactory.get().binaryDecoder(value.array(), value.position(), value.remaining(), null);
        Object datum = new GenericDatumReader<>(schema).read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IOException("bytes are left after a " + schema.getFullName());
        }
        var bytes = new ByteArrayOutputStream();
        var encoder = EncoderFactory.get().jsonEncoder(schema, bytes);
        new GenericDatumWriter<>(schema).write(datum, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }

    private static Schemas singleObject(Path folder) throws IOException {
        var known = new HashMap<Long, Schema>();
        try (var files = Files.newDirectoryStream(folder, "*.avsc")) {
            for (Path file : files) {
                var schema = new Schema.Parser().parse(Files.readString(file));
                known.put(SchemaNormalization.parsingFingerprint64(schema), schema);
            }
        }
        return value -> {
            value.order(ByteOrder.LITTLE_ENDIAN);
            int mark = value.getShort() & 0xffff;
            if (mark != 0x01c3) {
                throw new IOException("no single-object encoding: begins with " + Integer.toHexString(mark));
            }
            long fingerprint = value.getLong();
            var schema = known.get(fingerprint);
            if (schema == null) {
                throw new IOException("no schema in " + folder + " has fingerprint " + Long.toHexString(fingerprint));
            }
            return schema;
        };
    }

    private static Schemas registry(String url) {
        var http = HttpClient.newHttpClient();
        var known = new HashMap<Integer, Schema>();
        return value -> {
            value.order(ByteOrder.BIG_ENDIAN);
            int magic = value.get();
            if (magic != 0) {
                throw new IOException("no Confluent framing: begins with " + magic);
            }
            int id = value.getInt();
            if (!known.containsKey(id)) {
                var request = HttpRequest.newBuilder(URI.create(url + "/schemas/ids/" + id)).build();
                var answer = http.send(request, HttpResponse.BodyHandlers.ofString());
                if (answer.statusCode() != 200) {
                    throw new IOException("schema id " + id + ": " + answer.statusCode() + " " + answer.body());
                }
                known.put(id, new Schema.Parser().parse(JSON.readTree(answer.body()).get("schema").asText()));
            }
            return known.get(id);
        };
    }

    private ReadTopic() {}
}
