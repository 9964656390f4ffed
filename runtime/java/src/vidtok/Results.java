package vidtok;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import java.util.function.Supplier;

/** What a stream gives for each of its pieces, and then for its end. An exception ends it, too. */
public final class Results<T> implements Iterator<T>, AutoCloseable {
    private final BooleanSupplier more;
    private final Supplier<T> push;
    private final Supplier<T> finish;
    private final Runnable free;
    private boolean ended;

    /** free: what is to be done at the end, however that comes, perhaps more than once. */
    <A> Results(Iterator<A> pieces, Function<A, T> push, Supplier<T> finish, Runnable free) {
        more = pieces::hasNext;
        this.push = () -> push.apply(pieces.next());
        this.finish = finish;
        this.free = free;
    }

    @Override
    public boolean hasNext() {
        return !ended;
    }

    @Override
    public T next() {
        if (ended) throw new NoSuchElementException();
        ended = true; // unless a piece gives its result
        try {
            if (!more.getAsBoolean()) return finish.get();
            T result = push.get();
            ended = false;
            return result;
        } finally {
            if (ended) free.run();
        }
    }

    /** End it before its time. */
    @Override
    public void close() {
        ended = true;
        free.run();
    }
}
