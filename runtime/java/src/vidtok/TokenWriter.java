package vidtok;

import java.nio.file.Path;

/** A token file, which appears under its name when it is finished. */
public final class TokenWriter extends Handle {
    /** half: latents as float16. force: replace a file. */
    public TokenWriter(Tokenizer tokenizer, Path file, boolean half, boolean force) {
        super(
                tokenizer.use(tok -> Native.openWriter(tok, utf8(file.toString()), half, force)),
                Native::freeWriter);
    }

    public void append(Tokens tokens) {
        run(writer -> Native.append(writer, tokens.sizes(), tokens.latent(), tokens.indices()));
    }

    /** Give the file its name, with a rate of frames a second; 0/0: not known. */
    public void finish(Encoder encoder, long fpsNumerator, long fpsDenominator) {
        finish(encoder, fpsNumerator, fpsDenominator, 0, 0, null);
    }

    /** The same with a timestamp of each frame in units of a time base. */
    public void finish(
            Encoder encoder, long fpsNumerator, long fpsDenominator, long baseNumerator, long baseDenominator, long[] pts) {
        long[] rates = {fpsNumerator, fpsDenominator, baseNumerator, baseDenominator};
        run(writer -> encoder.run(stream -> Native.finishWriter(writer, stream, rates, pts)));
    }
}
