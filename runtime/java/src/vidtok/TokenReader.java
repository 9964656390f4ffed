package vidtok;

import java.nio.file.Path;
import java.util.Iterator;
import java.util.NoSuchElementException;

/** A token file that is read piece by piece. */
public final class TokenReader extends Handle {
    public TokenReader(Path file) {
        super(Native.openReader(utf8(file.toString())), Native::freeReader);
    }

    /** What the file says. */
    public Clip clip() {
        return use(Native::describe);
    }

    /** Throws VidtokException unless the numbers are those that were written. */
    public void verify() {
        run(Native::verify);
    }

    /** At most so many latents or tokens from {@code start} on; none behind the end. */
    public Tokens read(long start, long most) {
        if (start < 0 || most < 0) throw new IllegalArgumentException(most + " tokens from " + start + " on");
        return use(reader -> Native.read(reader, start, most));
    }

    /** A timestamp of each frame, in units of the time base. */
    public long[] pts() {
        return use(Native::pts);
    }

    /** All tokens, so many at once. */
    public Iterator<Tokens> chunks(int most) {
        if (most < 1) throw new IllegalArgumentException("a chunk has at least 1 latent");
        long count = clip().count();
        return new Iterator<>() {
            private long at;

            @Override
            public boolean hasNext() {
                return at < count;
            }

            @Override
            public Tokens next() {
                if (at >= count) throw new NoSuchElementException();
                Tokens tokens = read(at, most);
                at += tokens.count();
                return tokens;
            }
        };
    }
}
