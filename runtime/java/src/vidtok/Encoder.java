package vidtok;

import java.util.Iterator;

/** A stream of frames to tokens. */
public final class Encoder extends Handle {
    Encoder(Tokenizer tokenizer, long gop) {
        super(tokenizer.use(tok -> Native.openEncoder(tok, gop)), Native::freeEncoder);
    }

    /** Take whole frames {@code [T, H, W, 3]} of 0..255; gives every latent that is complete, perhaps none. */
    public Tokens push(byte[] rgb, int height, int width) {
        long frame = 3L * height * width;
        if (height < 1 || width < 1 || rgb.length % frame != 0) {
            throw new IllegalArgumentException(rgb.length + " bytes are no whole frames of " + width + "x" + height);
        }
        return use(encoder -> Native.pushFrames(encoder, rgb, (int) (rgb.length / frame), height, width));
    }

    /** End the stream; gives what is left. */
    public Tokens finish() {
        return use(Native::finishEncoder);
    }

    /** Tokens as frames come, each item one or more whole frames, to the end of the stream. */
    public Iterator<Tokens> over(Iterator<byte[]> clip, int height, int width) {
        Runnable nothing = () -> {}; // a writer's finish asks the encoder, which is closed by whoever opened it
        return new Results<>(clip, frames -> push(frames, height, width), this::finish, nothing);
    }
}
