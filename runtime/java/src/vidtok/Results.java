package vidtok;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;
import java.util.function.Supplier;

/** What a stream gives for each of its pieces, and then for its end. */
final class Results<A, B> implements Iterator<B> {
    private final Iterator<A> pieces;
    private final Function<A, B> push;
    private final Supplier<B> finish;
    private boolean ended;

    Results(Iterator<A> pieces, Function<A, B> push, Supplier<B> finish) {
        this.pieces = pieces;
        this.push = push;
        this.finish = finish;
    }

    @Override
    public boolean hasNext() {
        return !ended;
    }

    @Override
    public B next() {
        if (ended) throw new NoSuchElementException();
        if (pieces.hasNext()) return push.apply(pieces.next());
        ended = true;
        return finish.get();
    }
}
