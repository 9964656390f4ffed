"""Frames a second that a Triton server encodes in so many sequences at once, beside the runtime without a server.

vidtok-export triton tiny-fsq-32768 models/ --backend python && build/triton/tritonserver --model-repository models/
python scripts/triton_speed.py tiny-fsq-32768 grpc://localhost:8001 --size 256x256 --sequences 1,2,4,8
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vidtok_export.servers.repository import model_name
from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame

sys.path.append(str(Path(__file__).parents[1] / "docs/examples"))
Round = tuple[float, list[float]]  # frames a second, and the seconds that each request took


def main() -> None:
    """Interleave what is compared, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="as it was given to vidtok-export")
    parser.add_argument("address", help="http://HOST:PORT or grpc://HOST:PORT")
    parser.add_argument("--size", default="256x256", help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=32, help="of each sequence")
    parser.add_argument("--push", type=int, default=8, help="frames a request")
    parser.add_argument("--sequences", default="1,2,4,8", help="at once, one row each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--provider", default="cpu", help="of the runtime without a server")
    parser.add_argument("--threads", type=int, help="of the same; a model of the server has the cores / count")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    clip = np.stack([synthetic_frame(i, height, width) for i in range(args.frames)])
    pieces = [clip[i : i + args.push] for i in range(0, len(clip), args.push)]
    tokenizer = Tokenizer(args.bundle, args.provider, args.threads)
    model = model_name(tokenizer.manifest.name, "encoder")
    rows: dict[str, Callable[[], Round]] = {"1, without a server": lambda: _alone(tokenizer, pieces)}
    for count in map(int, args.sequences.split(",")):
        rows[f"{count}"] = lambda count=count: _at_once(args.address, model, pieces, count)  # type: ignore[misc]
    found: dict[str, list[Round]] = {name: [] for name in rows}
    for number in range(args.rounds + 1):
        for name, measure in rows.items():
            result = measure()
            if number:  # the first round warms up
                found[name].append(result)
    print(f"{model}, {args.size}, {args.frames} frames in requests of {args.push}; medians of {args.rounds} rounds\n")
    print("| sequences at once | frames a second | from ... to | ms a request |\n|---|---|---|---|")
    for name, rounds in found.items():
        rates = [rate for rate, _ in rounds]
        requests = statistics.median(seconds for _, times in rounds for seconds in times)
        spread = f"{min(rates):.1f} ... {max(rates):.1f}"
        print(f"| {name} | {statistics.median(rates):.1f} | {spread} | {requests * 1000:.0f} |")


def _timed(pieces: list[np.ndarray], times: list[float]) -> Iterator[np.ndarray]:
    """The pieces; how long each was in use goes to `times`."""
    for piece in pieces:
        start = time.perf_counter()
        yield piece
        times.append(time.perf_counter() - start)


def _alone(tokenizer: Tokenizer, pieces: list[np.ndarray]) -> Round:
    times: list[float] = []
    start = time.perf_counter()
    stream = tokenizer.encoder()
    for piece in _timed(pieces, times):
        stream.push(piece)
    stream.finish()
    return sum(map(len, pieces)) / (time.perf_counter() - start), times


def _at_once(address: str, model: str, pieces: list[np.ndarray], count: int) -> Round:
    """Clients in threads, each with a connection and a sequence of its own."""
    from triton_client import sequence

    protocol, _, place = address.partition("://")
    library = importlib.import_module(f"tritonclient.{protocol}")
    clients = [library.InferenceServerClient(place) for _ in range(count)]
    times: list[float] = []

    def run(client: object) -> int:
        return sum(map(len, sequence(library, client, model, _timed(pieces, times))))

    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        given = list(pool.map(run, clients))
    seconds = time.perf_counter() - start
    assert len(set(given)) == 1
    for client in clients:
        client.close()
    return count * sum(map(len, pieces)) / seconds, times


if __name__ == "__main__":
    main()
