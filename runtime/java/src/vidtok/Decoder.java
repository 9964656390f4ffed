package vidtok;

import java.util.Iterator;

/** A stream of tokens to frames. */
public final class Decoder extends Handle {
    Decoder(long address) {
        super(address, Native::freeDecoder);
    }

    /** Take any number of tokens; gives every frame that is complete, perhaps none. */
    public Frames push(Tokens tokens) {
        return use(decoder -> Native.pushTokens(decoder, tokens.sizes(), tokens.latent(), tokens.indices()));
    }

    /** End the stream; gives what waited. */
    public Frames finish() {
        return use(Native::finishDecoder);
    }

    /** Frames as tokens come, to the end of the stream; this decoder is closed then, and by close of the results. */
    public Results<Frames> over(Iterator<Tokens> tokens) {
        return new Results<>(tokens, this::push, this::finish, this::close);
    }
}
