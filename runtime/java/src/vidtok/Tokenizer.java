package vidtok;

import java.nio.file.Path;
import java.util.Iterator;

/** A bundle on an engine. Threads may share it; each stream is for one of them at a time, and outlives it. */
public final class Tokenizer extends Handle {
    public Tokenizer(Path folder, Options options) {
        super(
                Native.openTokenizer(
                        utf8(folder.toString()),
                        options.provider().isEmpty() ? null : utf8(options.provider()),
                        options.precision().isEmpty() ? null : utf8(options.precision()),
                        new long[] {
                            options.threads(), options.chunk(), options.maxTile(), options.maxMemory(),
                            options.window(), options.normalize() ? 1 : 0
                        }),
                Native::freeTokenizer);
    }

    /** Load ONNX Runtime from a file, once for the process, before the first tokenizer on "cpu". */
    public static void loadOnnxRuntime(Path file) {
        Native.loadOnnxRuntime(utf8(file.toString()));
    }

    /** A stream of frames to tokens, whose state starts anew every {@code gop} latents; 0: never. */
    public Encoder encoder(long gop) {
        return new Encoder(this, gop);
    }

    /** A stream of tokens to so many frames of a size; 0: what decodes, padding too. */
    public Decoder decoder(long numFrames, long height, long width) {
        return new Decoder(use(tok -> Native.openDecoder(tok, numFrames, height, width)));
    }

    /** A stream of the tokens of a file. */
    public Decoder decoder(TokenReader reader) {
        return new Decoder(use(tok -> reader.use(file -> Native.openDecoderOf(tok, file))));
    }

    /** Frames of a token file, decoded from so many latents or tokens at once. Close them where you may stop early. */
    public Results<Frames> decode(TokenReader reader, int chunk) {
        Iterator<Tokens> tokens = reader.chunks(chunk); // it may refuse, and there is no decoder yet
        return decoder(reader).over(tokens);
    }
}
