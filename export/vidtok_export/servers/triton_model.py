"""A tokenizer on Triton's Python backend: each sequence is a stream of `vidtok_runtime`. Copied as `model.py`."""

from __future__ import annotations

import json
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from vidtok_runtime import Tokenizer
from vidtok_runtime.errors import InputError
from vidtok_runtime.machine import cores, give_back

# What the first request of a sequence may set: arguments of `Tokenizer.encoder` and `Tokenizer.decoder`.
OPTIONS: dict[str, dict[str, type]] = {
    "encoder": {"gop": int, "sample": int, "normalize": bool},
    "decoder": {"num_frames": int, "height": int, "width": int, "gop": int, "normalized": bool},
}


class TritonPythonModel:
    """Encodes frames to tokens or decodes tokens to frames, as the parameter `role` of `config.pbtxt` says.

    A sequence that gets an error is over: what its stream has taken of the request is not known.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graphs; raises what is wrong with the bundle or the provider, which Triton reports."""
        config = json.loads(args["model_config"])
        settings = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._role = settings["role"]
        self._takes, self._gives = config["input"][0]["name"], config["output"][0]["name"]
        on_gpu = args["model_instance_kind"] == "GPU"
        tokenizer = Tokenizer(
            Path(args["model_repository"], args["model_version"], "bundle"),
            settings["provider"],
            max(1, cores() // config["instance_group"][0]["count"]),  # the instances share the machine
            settings["precision"],
            device_id=int(args["model_instance_device_id"]) if on_gpu else 0,
        )
        self._stream = tokenizer.encoder if self._role == "encoder" else tokenizer.decoder
        self._stream()  # loads the graphs now, not in the first request
        self._sequences: dict[int | str, tuple[Any, float]] = {}  # stream and when it was used; the oldest first
        self._turn = threading.Lock()
        # Triton says nothing when it forgets a sequence. Twice its time: a request may wait behind others' meanwhile.
        self._idle = 2e-6 * int(config["sequence_batching"]["max_sequence_idle_microseconds"])
        self._over = threading.Event()
        threading.Thread(target=self._forget, daemon=True).start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """An answer to each request, or the error that ended its sequence."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Let all sequences go."""
        self._over.set()
        self._sequences.clear()

    def _answer(self, request: Any) -> Any:
        try:
            with self._turn:
                out = self._step(request)
        except InputError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        except Exception as error:  # of an engine, or of memory; the other sequences go on
            pb_utils.Logger.log_error(traceback.format_exc())
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL))
        return pb_utils.InferenceResponse([pb_utils.Tensor(self._gives, out)])

    def _step(self, request: Any) -> NDArray[Any]:
        """What a request's data complete of its sequence, whose stream stays only if nothing goes wrong."""
        key, flags = request.correlation_id(), request.flags()
        stream, _ = self._sequences.pop(key, (None, 0))
        options = json.loads(request.parameters() or "{}")
        if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            stream = self._stream(**self._checked(options))
        elif options:
            raise InputError("parameters belong to the request with sequence_start; leave them out of later ones")
        if stream is None:
            raise InputError(
                f"sequence {key} is not known here: an error ended it, it was idle for too long, or the model was "
                "loaded anew; begin it again with sequence_start"
            )
        data = pb_utils.get_input_tensor_by_name(request, self._takes).as_numpy()
        out: NDArray[Any] = stream.push(data.copy())  # the memory is the request's, and streams may keep a part
        if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
            return np.concatenate([out, stream.finish()])
        self._sequences[key] = stream, time.monotonic()
        return out

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        known = OPTIONS[self._role]
        for name, value in options.items():
            if name not in known:
                raise InputError(f"there is no parameter {name!r:.60}; the {self._role} takes {', '.join(known)}")
            if type(value) is not known[name]:
                wanted = "true or false" if known[name] is bool else "a whole number"
                raise InputError(f"the parameter {name} is {wanted}, got {value!r:.60}")
        return options

    def _forget(self) -> None:
        """Let sequences go whose clients sent nothing for too long."""
        while not self._over.wait(self._idle / 8):
            with self._turn:
                limit = time.monotonic() - self._idle
                idle = [key for key, (_, used) in self._sequences.items() if used < limit]
                for key in idle:
                    del self._sequences[key]
            if idle:
                pb_utils.Logger.log_info(f"sequences without requests were let go: {', '.join(map(str, idle))}")
                give_back()
