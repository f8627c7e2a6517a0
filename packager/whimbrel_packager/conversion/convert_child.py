"""The conversion's child process: load, convert, canonicalise, attack, ask the source.

Run by `whimbrel_packager.conversion.conversion`; see `whimbrel_packager.conversion.child` for the manners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.bundle.datatypes import RANGES
from whimbrel_core.errors import ConversionError, InputError
from whimbrel_packager import feeds
from whimbrel_packager.conversion import child, conversion
from whimbrel_packager.conversion.corpus import MAX_PROBES, Corpus, Probe, make
from whimbrel_packager.frame import Frame
from whimbrel_packager.record import hyperparameters
from whimbrel_packager.sources import Rewriting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from whimbrel_packager.conversion.trees import Ensemble
    from whimbrel_packager.sources import Description, Source
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

_REFUSALS = (ValueError, TypeError, OverflowError, FloatingPointError)


def work(request: conversion.Request, folder: Path, stage: Callable[[str], None]) -> None:
    """Convert the model of ``request`` and leave the files of `whimbrel_packager.conversion.conversion`."""
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
    from whimbrel_packager.conversion import canonical, trees

    attempts = source.attempts(sample) if isinstance(source, Rewriting) else ((),)
    attempt, proto, description, data = _convert(source, sample, attempts, request.attempt)
    inputs = canonical.signature(proto.graph.input, what="input")
    outputs = canonical.signature(proto.graph.output, what="output")
    (folder / conversion.MODEL).write_bytes(data)

    stage("making the parity corpus")
    sample = feeds.fitted(sample, inputs, description.matrix)
    kinds = feeds.kinds_of(sample, inputs, description.matrix)
    ensembles = trees.ensembles(proto)
    probes = probe_thresholds(proto, source, sample, ensembles)
    ranges = Frame.load(folder / conversion.RANGES).select(sample.names, what=source.estimator)
    ranges = feeds.fitted(ranges, inputs, description.matrix)
    corpus = make(
        sample,
        probes,
        tree_only=_tree_only(proto),
        magnitudes=ranges,
        limits={name: RANGES[kind] for name, kind in kinds.items() if kind in RANGES},
    )

    stage(f"asking the source model: {corpus.frame.rows:,} rows")
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
    from whimbrel_packager.conversion import canonical

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
    # Cases first, their columns next: hundreds of small questions cost more than the answers.
    keep = np.zeros(corpus.frame.rows, dtype=bool)
    answers: list[tuple[Array, dict[str, Array]]] = []
    for case in np.unique(corpus.case):
        rows = np.flatnonzero(corpus.case == case)
        found, error = _ask(source, corpus, rows)
        if found is None and case == "real":
            raise ConversionError(
                f"{source.estimator} does not accept the reference rows: {error}",
                hint="give reference data with the columns and types it was fitted on",
            ) from error
        if found is not None:
            answers.append((rows, found))
            continue
        for column in np.unique(corpus.column[rows]):
            part = rows[corpus.column[rows] == column]
            found, _ = _ask(source, corpus, part)
            if found is None:
                answers.extend(_one_by_one(source, corpus, part))
            else:
                answers.append((part, found))
    for rows, _ in answers:
        keep[rows] = True
    refused: dict[str, int] = {}
    for case in corpus.case[~keep].tolist():
        refused[case] = refused.get(case, 0) + 1
    order = np.argsort(np.concatenate([rows for rows, _ in answers]), kind="stable")
    names = answers[0][1]
    joined = {name: np.concatenate([made[name] for _, made in answers])[order] for name in names}
    return corpus.take(np.flatnonzero(keep)), joined, dict(sorted(refused.items()))


def _ask(
    source: Source, corpus: Corpus, rows: Array
) -> tuple[dict[str, Array] | None, Exception | None]:
    """Return the source's answers to some rows, or None with why it refuses them."""
    try:
        return source.predict(corpus.frame.take(rows)), None
    except _REFUSALS as error:
        return None, error


def _one_by_one(
    source: Source, corpus: Corpus, rows: Array
) -> list[tuple[Array, dict[str, Array]]]:
    found = []
    # A source refuses a whole column's case or single odd values; a handful tells.
    for row in rows[:64]:
        answer, _ = _ask(source, corpus, np.array([row]))
        if answer is not None:
            found.append((np.array([row]), answer))
    return found


def probe_thresholds(
    proto: Proto, source: Source, sample: Frame, found: Sequence[Ensemble]
) -> list[Probe]:
    """Return thresholds of a model's trees that an input column meets unchanged.

    Beyond `MAX_PROBES` they are an even share of them all.
    """
    from whimbrel_packager.conversion import trees

    known = trees.origins(proto)
    ensembles = [e for e in found if known.get(e.tensor)]
    if not ensembles:
        return []
    matrix = [value.name for value in proto.graph.input] != list(sample.names)

    def columns_of(ensemble: Ensemble) -> list[str | None]:
        """Return the input column by feature index; None: computed."""
        origin = known[ensemble.tensor] or []
        return [
            None if one is None else sample.names[one[1]] if matrix else one[0] for one in origin
        ]

    # Every branch over a plain column, as (ensemble, node), then what the framework itself holds
    # and no node has: a converter may have lost one.
    named = [columns_of(ensemble) for ensemble in ensembles]
    plain = [np.array([c is not None for c in columns] + [False]) for columns in named]
    nodes = [
        np.flatnonzero(e.branch & plain[i][np.minimum(e.feature, len(named[i]))])
        for i, e in enumerate(ensembles)
    ]
    lost = _lost(source.thresholds(), ensembles[0], plain[0])
    total = sum(map(len, nodes)) + len(lost)
    kept = np.unique(np.linspace(0, total - 1, min(total, MAX_PROBES)).astype(np.int64))
    values = _tensor_values(proto, sample, [e.tensor for e in ensembles])
    probes, start = [], 0
    for ensemble, columns, members, x in zip(ensembles, named, nodes, values, strict=True):
        chosen = members[kept[(kept >= start) & (kept < start + len(members))] - start]
        start += len(members)
        reached = ensemble.reached(x) if x is not None and len(chosen) else None
        for i in chosen.tolist():
            row = -1 if reached is None else int(reached[i])
            column = columns[int(ensemble.feature[i])]
            if column is not None:
                row = row if row >= 0 else i * 13 % sample.rows
                probes.append(Probe(column, float(ensemble.threshold[i]), row))
    for i in (kept[kept >= start] - start).tolist():
        column = named[0][int(lost["feature"][i])]
        if column is not None:
            probes.append(Probe(column, float(lost["value"][i]), i * 13 % sample.rows))
    return probes


def _lost(known: Thresholds, ensemble: Ensemble, plain: Array) -> Thresholds:
    """Return the framework's thresholds that are not within a float32 step of a node's."""
    if not len(known):
        return known
    features, values = known["feature"], known["value"]
    usable = np.isfinite(values) & (features < len(plain) - 1)
    usable[usable] = plain[features[usable]]
    branch = ensemble.branch
    seen = np.sort(_keys(ensemble.feature[branch], ensemble.threshold[branch]))
    keys = _keys(features, values)
    # The first of the nodes' that is not below the step before.
    place = np.minimum(np.searchsorted(seen, keys - 1), max(len(seen) - 1, 0))
    usable &= (seen[place] > keys + 1) | (seen[place] < keys - 1) if len(seen) else True
    return np.compress(usable, known)


def _keys(features: Array, values: Array) -> Array:
    """Return integers that follow one another where float32 numbers of one feature do."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.asarray((features.astype(np.int64) << 34) + ordered)


def _tensor_values(proto: Proto, sample: Frame, names: list[str]) -> list[Array | None]:
    """Return inner tensors of a model on the sample, by running the part that makes them."""
    import onnxruntime

    from whimbrel_packager.frame import tensors

    inputs = [value.name for value in proto.graph.input]
    matrix = inputs[0] if inputs != list(sample.names) else None
    fed = dict(tensors(sample, matrix))
    wanted = [name for name in dict.fromkeys(names) if name not in inputs]
    if not wanted:
        return [fed.get(name) for name in names]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            _part(proto, wanted).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        made = dict(zip(wanted, session.run(wanted, fed), strict=True))
    except Exception:  # noqa: BLE001 - paths to nodes make a better corpus; it stands without
        return [None] * len(names)
    return [fed[name] if name in fed else made[name] for name in names]


def _part(proto: Proto, wanted: list[str]) -> Proto:
    """Return the model up to some tensors: without the trees, which may be millions of nodes."""
    import onnx

    needed, nodes = set(wanted), []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    part.graph.name = "part"
    part.graph.node.extend(reversed(nodes))
    part.graph.input.extend(proto.graph.input)
    part.graph.initializer.extend(t for t in proto.graph.initializer if t.name in needed)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return part


def _tree_only(proto: Proto) -> bool:
    """Return whether numbers meet nothing but thresholds on their way; sums of leaves may go on."""
    allowed = {
        "Concat", "Identity", "Cast", "Reshape", "Imputer", "LabelEncoder", "OneHotEncoder",
        "ArrayFeatureExtractor", "Gather", "Shape", "Flatten",
    }  # fmt: skip
    trees = {"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"}
    before = {value.name for value in proto.graph.input}
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        if node.op_type in trees or not before.intersection(node.input):
            continue
        if node.op_type not in allowed:
            return False
        before.update(node.output)
    return not before & outputs


if __name__ == "__main__":
    child.main(conversion.Request, work)
