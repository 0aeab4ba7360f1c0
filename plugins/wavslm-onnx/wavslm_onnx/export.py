"""Writes a codec or a language model as ONNX graphs with a manifest, for `wavslm_onnx.runner` or others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from wavslm_core.plugin import Codec, Sampler, SpeechLM, WavslmError, quiet, replacing_folder
from wavslm_onnx.graphs import Graph, Speak, graphs, unit_problem

MANIFEST = "model.json"
Weights = Literal["fp32", "int8"]
README = """# A model of wavslm as ONNX graphs

Each graph is one step of a stream, {chunk_ms} ms: it is given its state and gives the next one, each tensor
`x` as `next_x`. The state before the first step lies beside it (`.npz`). Audio is mono in [-1, 1],
{sample_rate_in_hz} Hz in and {sample_rate_out_hz} Hz out; what comes out lags by {delay_samples} samples.
Weights: {weights}. `model.json` has all shapes and digests.

| graph | in | out | tensors of state |
|---|---|---|---|
{table}

With `pip install wavslm-onnx` (numpy and onnxruntime, no torch):

```python
from wavslm_onnx.runner import Runner

runner = Runner("this/folder")
tokens = runner.encode(waveform)
audio = runner.decode(tokens)
```
"""


def export_model(
    model: Codec | SpeechLM,
    folder: Path,
    *,
    sampler: Sampler | None = None,
    weights: Weights = "fp32",
    said: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write `encode.onnx`, `decode.onnx`, of a language model `speak.onnx`, and what describes them.

    The codec and the model are taken as they are, on the CPU, in fp32; "int8" rounds the weights of matrix
    products afterwards. What is there is replaced once all is written. Returns the manifest.
    Raises: WavslmError for a model that cannot be written as steps.
    """
    codec = model if isinstance(model, Codec) else model.codec
    for part in (codec.encoder, codec.quantizer, codec.decoder):
        if not part.config.facts().streams:
            raise part.no_streaming()
    problem = unit_problem(model) if isinstance(model, SpeechLM) else None
    if problem is not None:
        raise WavslmError(f"the model cannot be written as steps of one size: {problem}")
    facts, found = codec.facts, graphs(model, sampler)
    manifest: dict[str, Any] = {
        "format": 1,
        "weights": weights,
        "sample_rate_in_hz": codec.sample_rate_in,
        "sample_rate_out_hz": codec.sample_rate_out,
        "chunk_samples_in": facts.chunk_samples_in,
        "chunk_samples_out": facts.chunk_samples_out,
        "chunk_tokens": facts.chunk_tokens,
        "delay_samples": facts.decoder.delay_samples,
        "vocab_size": facts.quantizer.vocab_size,
    }
    if isinstance(model, SpeechLM):
        speak = found["speak"]
        assert isinstance(speak, Speak)
        manifest["speech_lm"] = {
            "chunk_tokens": speak.tokens,
            "chunk_samples": speak.tokens // facts.chunk_tokens * facts.chunk_samples_out,
            "uniforms": speak.uniforms,
        }
    with replacing_folder(folder) as beside:
        written = {}
        for name, graph in found.items():
            said(f"{name}.onnx")
            written[name] = _write(graph, beside / f"{name}.onnx", weights=weights)
        manifest["graphs"] = written
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        (beside / "README.md").write_text(_readme(manifest), encoding="utf-8")
    return manifest


def _write(graph: Graph, path: Path, *, weights: Weights) -> dict[str, Any]:
    """Write one graph and the state before its first step; return its entry in the manifest."""
    state = graph.init_state()
    arguments = (*graph.example(), *state.values())
    inputs = [*graph.inputs, *state]
    leaves = [f"next_{name}" for name in state] if graph.inputs else []
    write_graph(graph, arguments, path, inputs=inputs, outputs=[*graph.outputs, *leaves])
    if weights == "int8":
        round_weights(path)
    start = path.with_suffix(".npz")
    tensors: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(start, **tensors)
    return {
        "file": path.name,
        "sha256": _sha256(path),
        "inputs": _shapes(dict(zip(inputs, arguments, strict=True))),
        "outputs": [*graph.outputs, *leaves],
        "state": list(state),
        "start": start.name,
        "start_sha256": _sha256(start),
    }


def write_graph(
    step: nn.Module, arguments: tuple[torch.Tensor, ...], path: Path, *, inputs: list[str], outputs: list[str]
) -> None:
    """Write a module as one graph, its weights in fp32."""
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            step,
            arguments,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            custom_translation_table={
                torch.ops.aten.sort.stable: _stable_sort,
                torch.ops.aten.index_copy.default: _index_copy,
            },
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _stable_sort(x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Return `torch.sort` in operators of ONNX, whose TopK puts the lower index of equals first."""
    from onnxscript import opset18

    op: Any = opset18
    size_1 = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, size_1, axis=dim, largest=int(descending), sorted=1)


def _index_copy(x: Any, dim: int, index: Any, source: Any) -> Any:
    """Return `torch.index_copy` as the one operator that can write into `x` where it lies."""
    from onnxscript import opset18

    op: Any = opset18
    behind = len(x.shape) - 1 - dim % len(x.shape)
    places = op.Unsqueeze(index, op.Constant(value_ints=[*range(1, behind + 1)])) if behind else index
    return op.ScatterElements(x, op.Expand(places, op.Shape(source)), source, axis=dim)


def round_weights(path: Path, *, seven_bits: bool = False) -> None:
    """Round the weights of matrix products to 8 bits, or 7, one scale for each output."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded, graph = path.with_suffix(".int8.onnx"), onnx.load(path).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    # onnxruntime rounds matrices alone: products for each group of a convolution stay as they are.
    others = [node.name for node in graph.node if node.op_type == "MatMul" and not matrices & {*node.input}]
    with quiet():
        quantize_dynamic(
            path,
            rounded,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=seven_bits,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=others,
        )
    rounded.replace(path)


def _shapes(arguments: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.numpy().dtype)}
        for name, tensor in arguments.items()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readme(manifest: Mapping[str, Any]) -> str:
    rows = []
    for entry in manifest["graphs"].values():
        kept = len(entry["state"])
        given, left = list(entry["inputs"]), entry["outputs"]
        leaves = sum(f"next_{name}" in left for name in entry["state"])
        names = ", ".join(given[: len(given) - kept]) or "its state"
        rows.append(f"| `{entry['file']}` | {names} | {', '.join(left[: len(left) - leaves])} | {kept} |")
    return README.format(
        table="\n".join(rows),
        chunk_ms=f"{1000 * manifest['chunk_samples_in'] / manifest['sample_rate_in_hz']:g}",
        **{name: value for name, value in manifest.items() if name not in ("graphs", "speech_lm")},
    )
