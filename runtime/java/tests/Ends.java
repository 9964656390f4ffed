import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import vidtok.Decoder;
import vidtok.Encoder;
import vidtok.Frames;
import vidtok.Options;
import vidtok.Results;
import vidtok.TokenReader;
import vidtok.Tokenizer;
import vidtok.Tokens;
import vidtok.VidtokException;

/**
 * However results end, they stay at their end and the decoder is closed; threads close what others use: {@code Ends
 * BUNDLE TOKENS}, of a codebook.
 */
final class Ends {
    private static void check(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    private static boolean fails(Class<? extends RuntimeException> kind, Runnable call) {
        try {
            call.run();
        } catch (RuntimeException error) {
            return kind.isInstance(error);
        }
        return false;
    }

    private static void checkEnd(Iterator<?> results, String when) {
        check(!results.hasNext(), "there is more " + when);
        check(fails(NoSuchElementException.class, results::next), "next gives more " + when);
    }

    private static void checkClosed(Decoder decoder, String when) {
        check(fails(IllegalStateException.class, decoder::finish), "the decoder is open " + when);
    }

    /** A thread pushes frames until others close the stream, all at once. */
    private static void checkThreads(Tokenizer tok) throws InterruptedException {
        for (int i = 0; i < 20; ++i) {
            Encoder encoder = tok.encoder(0);
            AtomicBoolean ended = new AtomicBoolean();
            CountDownLatch start = new CountDownLatch(1);
            List<Thread> threads = new ArrayList<>();
            threads.add(new Thread(() -> ended.set(fails(IllegalStateException.class, () -> pushFrames(encoder)))));
            for (int n = 0; n < 3; ++n) threads.add(new Thread(() -> closeAfter(start, encoder)));
            for (Thread thread : threads) thread.start();
            Thread.sleep(i);
            start.countDown();
            for (Thread thread : threads) thread.join();
            check(ended.get(), "an encoder is open after close");
        }
    }

    private static void pushFrames(Encoder encoder) {
        while (true) encoder.push(new byte[8 * 64 * 64 * 3], 64, 64);
    }

    private static void closeAfter(CountDownLatch start, Encoder encoder) {
        try {
            start.await();
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
        encoder.close();
    }

    public static void main(String[] words) throws InterruptedException {
        check(fails(NullPointerException.class, new Frames(1, 1, 1, null)::toBytes), "there are no pixels");
        try (Tokenizer tok = new Tokenizer(Path.of(words[0]), Options.DEFAULT.withThreads(1));
                TokenReader reader = new TokenReader(Path.of(words[1]))) {
            checkThreads(tok);
            Decoder whole = tok.decoder(reader);
            Results<Frames> frames = whole.over(reader.chunks(2));
            check(fails(IllegalArgumentException.class, () -> reader.read(-1, 1)), "there is nothing before the start");
            check(fails(IllegalArgumentException.class, () -> reader.read(0, -1)), "fewer than none");
            check(reader.read(Long.MAX_VALUE, 1).count() == 0, "there is something behind the end");
            long count = 0;
            while (frames.hasNext()) count += frames.next().count();
            check(count == reader.clip().numFrames(), count + " frames");
            checkEnd(frames, "at the end");
            checkClosed(whole, "at the end");

            Decoder failing = tok.decoder(reader);
            Tokens beyond = new Tokens(1, 1, 1, 1, null, new int[] {-1});
            Results<Frames> fewer = failing.over(List.of(reader.read(0, 1), beyond).iterator());
            fewer.next();
            check(fails(VidtokException.class, fewer::next), "no code is -1");
            checkEnd(fewer, "after an exception");
            checkClosed(failing, "after an exception");

            Decoder stopped = tok.decoder(reader);
            Results<Frames> some = stopped.over(reader.chunks(1));
            try (some) {
                check(some.hasNext(), "there are no frames");
                some.next();
            }
            checkEnd(some, "after close");
            checkClosed(stopped, "after close");

            try (Encoder encoder = tok.encoder(0)) {
                Iterator<Tokens> none = encoder.over(List.of(new byte[1]).iterator(), 8, 8);
                check(fails(IllegalArgumentException.class, none::next), "one byte is no frame");
                checkEnd(none, "after an exception");
                encoder.finish(); // it is open
            }
        }
    }
}
