"""The conversion's child process: load, convert, canonicalise, attack, ask the source.

Run by `whimbrel_packager.conversion`; see `whimbrel_packager.child` for the manners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.errors import ConversionError, InputError
from whimbrel_packager import child, conversion, hyperparameters
from whimbrel_packager.corpus import Corpus, Probe, make
from whimbrel_packager.frame import Frame
from whimbrel_packager.sources import Rewriting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from whimbrel_packager.sources import Description, Source
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

_REFUSALS = (ValueError, TypeError, OverflowError, FloatingPointError)


def work(request: conversion.Request, folder: Path, stage: Callable[[str], None]) -> None:
    """Convert the model of ``request`` and leave the files of `whimbrel_packager.conversion`."""
    from pathlib import Path as Located

    stage("loading")
    from whimbrel_packager.sources import open_source

    source = open_source(Located(request.model), request.options)
    sample = Frame.load(folder / conversion.SAMPLE)
    sample = sample.select(source.columns(sample), what=source.estimator)
    if sample.blocks and not getattr(source, "reads_blocks", False):
        raise InputError(
            f"column {sample.blocks[0]!r} has the shape {sample.columns[sample.blocks[0]].shape}, "
            f"and {source.estimator} takes one value per row and column",
            hint="give its columns one by one, or one matrix (rows, columns) alone",
            code="input.column",
        )

    stage("converting")
    from whimbrel_packager import canonical, trees

    attempts = source.attempts(sample) if isinstance(source, Rewriting) else ((),)
    attempt, proto, description, data = _convert(source, sample, attempts, request.attempt)
    inputs = canonical.signature(proto.graph.input, what="input")
    outputs = canonical.signature(proto.graph.output, what="output")
    (folder / conversion.MODEL).write_bytes(data)

    stage("making the parity corpus")
    ensembles = trees.ensembles(proto)
    probes = probe_thresholds(proto, source, sample)
    ranges = Frame.load(folder / conversion.RANGES)
    corpus = make(sample, probes, tree_only=_tree_only(proto), magnitudes=ranges)

    stage("asking the source model")
    corpus, expected, refused = ask(source, corpus)
    corpus.frame.save(folder / conversion.CORPUS)
    np.savez(folder / conversion.CASES, case=corpus.case, column=corpus.column)
    arrays = {}
    for i, (name, kind, _shape) in enumerate(outputs):
        if name in expected:
            values = expected[name]
            arrays[f"output_{i}"] = values.astype(np.str_) if kind == "BYTES" else values
    np.savez(folder / conversion.EXPECTED, **arrays)  # type: ignore[arg-type]
    result = conversion.Result(
        description=description,
        opsets={entry.domain: entry.version for entry in proto.opset_import},
        operators=canonical.operators(proto),
        ir_version=proto.ir_version,
        inputs=inputs,
        outputs=outputs,
        refused=refused,
        ensembles=len(ensembles),
        tree_only=_tree_only(proto),
        thresholds=len(probes),
        attempts=tuple(attempts),
        attempt=attempt,
        parameters=hyperparameters.of(source),
        libraries=hyperparameters.libraries(source),
    )
    (folder / conversion.RESULT).write_bytes(msgspec.json.encode(result))


def _convert(
    source: Source, sample: Frame, attempts: Sequence[tuple[str, ...]], first: int
) -> tuple[int, Proto, Description, bytes]:
    """Return the first attempt from ``first`` on that converts, with what it gives.

    Raises:
        ConversionError: none does; the reason of the first.
    """
    from whimbrel_packager import canonical

    refusal: ConversionError | None = None
    for attempt in range(first, len(attempts)):
        try:
            if isinstance(source, Rewriting) and attempts[attempt]:
                proto, description = source.convert(sample, attempts[attempt])
            else:
                proto, description = source.convert(sample)
            return attempt, proto, description, canonical.canonicalise(proto)
        except ConversionError as error:
            refusal = refusal or error
    raise refusal or AssertionError


def ask(source: Source, corpus: Corpus) -> tuple[Corpus, dict[str, Array], dict[str, int]]:
    """Return the rows that the source accepts, its answers, and the refused rows by case.

    Raises:
        ConversionError: it does not accept the reference rows themselves.
    """
    try:
        return corpus, source.predict(corpus.frame), {}
    except _REFUSALS:
        pass  # some case is not for this model: find out which
    keep = np.zeros(corpus.frame.rows, dtype=bool)
    answers: list[tuple[Array, dict[str, Array]]] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(corpus.case.tolist(), corpus.column.tolist(), strict=True)):
        groups.setdefault(key, []).append(i)
    for (case, _column), listed in groups.items():
        rows = np.array(listed)
        try:
            answers.append((rows, source.predict(corpus.frame.take(rows))))
        except _REFUSALS as error:
            if case == "real":
                raise ConversionError(
                    f"{source.estimator} does not accept the reference rows: {error}",
                    hint="give reference data with the columns and types it was fitted on",
                ) from error
            answers.extend(_one_by_one(source, corpus, rows))
        else:
            keep[rows] = True
    for rows, _ in answers:
        keep[rows] = True
    refused: dict[str, int] = {}
    for case in corpus.case[~keep].tolist():
        refused[case] = refused.get(case, 0) + 1
    order = np.argsort(np.concatenate([rows for rows, _ in answers]), kind="stable")
    names = answers[0][1]
    joined = {name: np.concatenate([made[name] for _, made in answers])[order] for name in names}
    return corpus.take(np.flatnonzero(keep)), joined, dict(sorted(refused.items()))


def _one_by_one(
    source: Source, corpus: Corpus, rows: Array
) -> list[tuple[Array, dict[str, Array]]]:
    found = []
    # A source refuses a whole column's case or single odd values; a handful tells.
    for row in rows[:64]:
        try:
            found.append((np.array([row]), source.predict(corpus.frame.take(np.array([row])))))
        except _REFUSALS:
            continue
    return found


def probe_thresholds(proto: Proto, source: Source, sample: Frame) -> list[Probe]:
    """Return the thresholds of a model's trees that an input column meets unchanged."""
    from whimbrel_packager import trees

    known = trees.origins(proto)
    ensembles = [e for e in trees.ensembles(proto) if known.get(e.tensor)]
    if not ensembles:
        return []
    matrix = [value.name for value in proto.graph.input] != list(sample.names)
    columns = sample.names
    values = _tensor_values(proto, sample, [e.tensor for e in ensembles])
    probes = []
    for ensemble, x in zip(ensembles, values, strict=True):
        origin = known[ensemble.tensor] or []
        reached = ensemble.reached(x) if x is not None and len(ensemble.tree) else {}
        for i in np.flatnonzero(ensemble.branch).tolist():
            at = int(ensemble.feature[i])
            if at >= len(origin) or origin[at] is None:
                continue
            name = columns[origin[at][1]] if matrix else origin[at][0]  # type: ignore[index]
            row = reached.get(i, i * 13 % sample.rows)
            probes.append(Probe(name, float(ensemble.threshold[i]), row))
    # The framework's own thresholds too: a converter may have lost one. They are already among
    # those above when it has not.
    seen = {(p.column, np.float32(p.threshold)) for p in probes}
    origin = known[ensembles[0].tensor] or []
    for count, (feature, threshold) in enumerate(source.thresholds()):
        if feature < len(origin) and origin[feature] is not None and np.isfinite(threshold):
            name = columns[origin[feature][1]] if matrix else origin[feature][0]  # type: ignore[index]
            if not _near(seen, name, threshold):
                probes.append(Probe(name, threshold, count * 13 % sample.rows))
    return probes


def _near(seen: set[tuple[str, Any]], name: str, threshold: float) -> bool:
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    steps = (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)))
    return any((name, step) in seen for step in steps)


def _tensor_values(proto: Proto, sample: Frame, names: list[str]) -> list[Array | None]:
    """Return inner tensors of a model on the sample, by running it with them as outputs."""
    import onnx
    import onnxruntime

    from whimbrel_packager.frame import tensors

    opened = onnx.ModelProto.FromString(proto.SerializeToString())
    inputs = [value.name for value in opened.graph.input]
    outputs = {value.name for value in opened.graph.output}
    wanted = [name for name in dict.fromkeys(names) if name not in inputs]
    for name in wanted:
        if name not in outputs:
            opened.graph.output.append(onnx.ValueInfoProto(name=name))
    matrix = inputs[0] if inputs != list(sample.names) else None
    fed = dict(tensors(sample, matrix))
    if not wanted:
        return [fed.get(name) for name in names]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        made = dict(zip(wanted, session.run(wanted, fed), strict=True))
    except Exception:  # noqa: BLE001 - paths to nodes make a better corpus; it stands without
        return [None] * len(names)
    return [fed[name] if name in fed else made[name] for name in names]


def _tree_only(proto: Proto) -> bool:
    """Return whether numbers meet nothing but thresholds on their way."""
    allowed = {
        "Concat", "Identity", "Cast", "Reshape", "Imputer", "LabelEncoder", "OneHotEncoder",
        "ArrayFeatureExtractor", "Gather", "TreeEnsembleClassifier", "TreeEnsembleRegressor",
        "TreeEnsemble", "Shape", "Flatten", "ZipMap", "ArgMax",
    }  # fmt: skip
    return all(node.op_type in allowed for node in proto.graph.node)


if __name__ == "__main__":
    child.main(conversion.Request, work)
