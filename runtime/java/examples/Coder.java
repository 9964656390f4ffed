import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import vidtok.Encoder;
import vidtok.Frames;
import vidtok.Options;
import vidtok.Results;
import vidtok.TokenReader;
import vidtok.TokenWriter;
import vidtok.Tokenizer;
import vidtok.Tokens;
import vidtok.VidtokException;

/** Clips to token files and back; called as runtime/cpp/c/examples/coder.c. */
final class Coder {
    /** Pieces of so many bytes, the last one shorter. */
    private static Iterator<byte[]> pieces(InputStream in, int size) {
        return new Iterator<>() {
            private byte[] next = read();

            private byte[] read() {
                try {
                    return in.readNBytes(size);
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            }

            @Override
            public boolean hasNext() {
                return next.length > 0;
            }

            @Override
            public byte[] next() {
                byte[] now = next;
                next = read();
                return now;
            }
        };
    }

    private static void encode(Tokenizer tok, String[] words) throws IOException {
        int width = Integer.parseInt(words[4]), height = Integer.parseInt(words[5]);
        int size = 3 * height * width * Integer.parseInt(words[7]);
        try (InputStream clip = new BufferedInputStream(Files.newInputStream(Path.of(words[2])));
                TokenWriter writer = new TokenWriter(tok, Path.of(words[3]), false, false);
                Encoder encoder = tok.encoder(0)) {
            Iterator<Tokens> tokens = encoder.over(pieces(clip, size), height, width);
            while (tokens.hasNext()) writer.append(tokens.next());
            writer.finish(encoder, Long.parseLong(words[6]), 1);
        }
    }

    private static void decode(Tokenizer tok, String[] words) throws IOException {
        try (TokenReader reader = new TokenReader(Path.of(words[2]))) {
            reader.verify();
            try (Results<Frames> frames = tok.decode(reader, Integer.parseInt(words[4]));
                    DataOutputStream out =
                            new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(Path.of(words[3]))))) {
                while (frames.hasNext()) {
                    float[] pixels = frames.next().pixels();
                    ByteBuffer bytes = ByteBuffer.allocate(4 * pixels.length).order(ByteOrder.LITTLE_ENDIAN);
                    bytes.asFloatBuffer().put(pixels);
                    out.write(bytes.array());
                }
            }
        }
    }

    public static void main(String[] words) {
        String provider = System.getenv().getOrDefault("VIDTOK_PROVIDER", "");
        long limit = Long.parseLong(System.getenv().getOrDefault("VIDTOK_MAX_MEMORY", "0"));
        Options options = Options.DEFAULT.withProvider(provider).withThreads(1).withMaxMemory(limit);
        String command = words.length > 0 ? words[0] : "";
        if (!(command.equals("encode") && words.length == 8) && !(command.equals("decode") && words.length == 5)) {
            System.err.println("coder: encode BUNDLE CLIP TOKENS WIDTH HEIGHT FPS CHUNK, or decode BUNDLE TOKENS CLIP CHUNK");
            System.exit(2);
        }
        try (Tokenizer tok = new Tokenizer(Path.of(words[1]), options)) {
            if (command.equals("encode")) encode(tok, words);
            else decode(tok, words);
        } catch (VidtokException | IOException | UncheckedIOException error) {
            System.err.println("coder: " + error.getMessage());
            System.exit(1);
        }
    }
}
