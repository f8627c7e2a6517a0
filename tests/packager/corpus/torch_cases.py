"""PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from tests.packager.corpus.case import Case, Given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, Any]

SOURCE = "PyTorch"
CLASSES = ("low", "mid", "high")
LOGITS = {"output": "logits"}
NAMED = {"output": "logits", "classes": CLASSES}
GUARD = ("missing values stay missing",)


class Asked(NamedTuple):
    """A module with what its numbers mean."""

    module: nn.Module
    layer: str = "softmax"
    classes: tuple[str, ...] = ()
    pick: Callable[[Any], Any] = lambda made: made


def ask(asked: Asked, rows: Any) -> dict[str, Any]:  # noqa: ANN401 - as a case has them
    """Return the module's own answers in inference; a missing number is no row of a network."""
    given = list(rows.values()) if isinstance(rows, dict) else [rows]
    if any(np.isnan(values.astype(np.float64)).any() for values in given):
        raise ValueError("a number is missing")
    kind = next((p.dtype for p in asked.module.parameters()), torch.float32)
    tensors = [torch.from_numpy(np.ascontiguousarray(values)) for values in given]
    with torch.no_grad():
        made = asked.module.eval()(*(t if t.dtype == torch.int64 else t.to(kind) for t in tensors))
    made = asked.pick(made)
    if not asked.layer:
        return {"value": made.numpy()}
    shares = made.double().softmax(1) if asked.layer == "softmax" else made.double().sigmoid()
    if shares.shape[1] == 1:
        shares = torch.cat([1 - shares, shares], dim=1)
    best = shares.argmax(1).numpy()
    return {
        "label": np.array(asked.classes)[best] if asked.classes else best,
        "probabilities": shares.numpy(),
    }


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(4 * 25, 3)

    def forward(self, image: Any) -> Any:  # noqa: ANN401
        return self.last(self.pool(self.norm(self.first(image)).relu()).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cells = kind(4, 8, batch_first=True)
        self.last = nn.Linear(8, 2)

    def forward(self, steps: Any) -> Any:  # noqa: ANN401
        return self.last(self.cells(steps)[0][:, -1])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, words: Any) -> Any:  # noqa: ANN401
        return self.last(self.table(words).mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.last = nn.Linear(16, 3)

    def forward(self, steps: Any) -> Any:  # noqa: ANN401
        return self.last(self.layer(steps).mean(1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(4, 8)
        self.classes, self.amount = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, wide: Any, deep: Any) -> dict[str, Any]:  # noqa: ANN401
        hidden = torch.tanh(self.a(wide) + self.b(deep))
        return {"amount": self.amount(hidden), "classes": self.classes(hidden)}


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return x if x.sum() > 0 else -x


class OneBatch(nn.Module):
    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return x.reshape(4, 2, 4).sum(1)


class Noisy(nn.Module):
    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return (x + torch.randn_like(x)).sum(1, keepdim=True)


class OverTheBatch(nn.Module):
    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return (x - x[:1]).sum(1, keepdim=True)


class Filled(nn.Module):
    """A module that knows missing numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 1)

    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return self.last(torch.nan_to_num(x, nan=0.0, posinf=9.0, neginf=-9.0).clamp(-9, 9))


@torch.library.custom_op("whimbrel_tests::twist", mutates_args=())
def twist(a: torch.Tensor) -> torch.Tensor:
    """Stand for somebody's own kernel."""
    return a * 2


@twist.register_fake
def _twisted(a: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(a)


class Custom(nn.Module):
    def forward(self, x: Any) -> Any:  # noqa: ANN401
        return twist(x).sum(1, keepdim=True)


class Bytes(nn.Module):
    """Scales what a camera gives, bytes with the channels last, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 3)

    def forward(self, pixels: Any) -> Any:  # noqa: ANN401
        image = (pixels / 255).permute(0, 3, 1, 2)
        return self.last(self.convolution(image).relu().mean((2, 3)))


def layers(last: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, last)
    )


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return make()


def rows(*shape: int, rows: int = 120) -> Array:
    return np.random.default_rng(3).normal(size=(rows, *shape)).astype(np.float32)


def module(
    make: Callable[[], nn.Module],
    data: object,
    options: Mapping[str, object] = LOGITS,
    layer: str = "softmax",
    pick: Callable[[Any], Any] = lambda made: made,
) -> Callable[[Path], Given]:
    """Return how a module in memory, still in training mode, is given."""

    def given(_folder: Path) -> Given:
        model = seeded(make)
        classes = CLASSES if options is NAMED else ()
        return Given(model, data, options, Asked(model, layer, classes, pick))

    return given


def saved(
    save: Callable[[nn.Module, Path], None],
    name: str,
    options: Mapping[str, object] = LOGITS,
) -> Callable[[Path], Given]:
    """Return how a module that was saved as a file is given."""

    def given(folder: Path) -> Given:
        model = layers().eval()
        save(model, folder / name)
        return Given(folder / name, rows(8), options, Asked(model))

    return given


def program(model: nn.Module, path: Path, *, batch: int | None = None) -> None:
    free = None if batch else ({0: torch.export.Dim.DYNAMIC},)
    example = (torch.zeros(batch or 4, 8),)
    torch.export.save(torch.export.export(model, example, dynamic_shapes=free), path)


def in_training(model: nn.Module, path: Path) -> None:
    program(model.train(), path)
    model.eval()


def fixed_batch(folder: Path) -> Given:
    """Return a program whose one batch size is worked into its graph."""
    made = torch.export.export(OneBatch(), (torch.zeros(4, 8),))
    torch.export.save(made, folder / "model.pt2")
    return Given(folder / "model.pt2", rows(8), {"output": "value"})


def program_of_bytes(folder: Path) -> Given:
    model = seeded(Bytes).eval()
    free = ({0: torch.export.Dim.DYNAMIC},)
    made = torch.export.export(model, (torch.from_numpy(PIXELS[:4]),), dynamic_shapes=free)
    torch.export.save(made, folder / "model.pt2")
    return Given(folder / "model.pt2", PIXELS, LOGITS, Asked(model))


PIXELS = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
PICKLE = {**LOGITS, "allow_pickle": True}
CASES = [
    Case("MLP with batch norm and dropout, in training mode", module(layers, rows(8), NAMED)),
    Case("one logit", module(lambda: layers(1), rows(8), LOGITS, "sigmoid")),
    Case(
        "regression",
        module(lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)), rows(8), {}, ""),
    ),
    Case("float64", module(lambda: layers().double(), rows(8))),
    Case(
        "convolutions and pooling", module(Convolutions, rows(1, 12, 12, rows=40)), rewrites=GUARD
    ),
    Case("GRU", module(lambda: Recurrent(nn.GRU), rows(6, 4, rows=40)), rewrites=GUARD),
    Case("LSTM", module(lambda: Recurrent(nn.LSTM), rows(6, 4, rows=40)), rewrites=GUARD),
    Case(
        "embedding",
        module(Words, {"words": np.random.default_rng(3).integers(0, 20, (80, 6))}),
    ),
    Case("images of bytes", module(Bytes, PIXELS)),
    Case("images of bytes, an exported program", program_of_bytes),
    Case("transformer layer", module(Attention, rows(6, 16, rows=40))),
    Case(
        "two inputs, two outputs",
        module(
            TwoInputs,
            {"wide": rows(3), "deep": rows(4)},
            {**LOGITS, "main_output": "classes"},
            pick=lambda made: made["classes"],
        ),
    ),
    Case("a module that fills missing numbers", module(Filled, rows(8), {}, "")),
    Case("exported program", saved(program, "model.pt2")),
    Case(
        "exported program with a frozen batch",
        saved(lambda model, path: program(model, path, batch=5), "model.pt2"),
    ),
    Case("pickled module", saved(torch.save, "model.pt", PICKLE)),
    Case(
        "TorchScript",
        saved(
            lambda m, path: torch.jit.trace(m, torch.zeros(3, 8)).save(str(path)),
            "model.pt",
            PICKLE,
        ),
    ),
    Case(
        "logits that nobody named",
        module(layers, rows(8), {}),
        refused="conversion.failed",
        says="nothing says what they are",
    ),
    Case(
        "exported in training mode",
        saved(in_training, "model.pt2"),
        refused="conversion.failed",
        says="batch_norm in training mode, dropout in training mode",
    ),
    Case(
        "exported for one batch size alone",
        fixed_batch,
        refused="conversion.failed",
        says="was exported for a batch of 4 rows alone",
    ),
    Case(
        "control flow on the data",
        module(Branching, rows(8), {"output": "value"}),
        refused="conversion.failed",
        says="branches on its data",
    ),
    Case(
        "random numbers",
        module(Noisy, rows(8), {}),
        refused="conversion.failed",
        says="randn_like, which draws random numbers",
    ),
    Case(
        "rows that depend on their batch",
        module(OverTheBatch, rows(8), {}),
        refused="parity.differs",
        says="a batch of",
    ),
    Case(
        "an operator of one's own",
        module(Custom, rows(8), {}),
        refused="conversion.failed",
        says="whimbrel_tests.twist",
    ),
    Case(
        "half precision",
        module(lambda: layers().half(), rows(8)),
        refused="conversion.failed",
        says="computes in float16",
    ),
    Case(
        "a file of weights",
        saved(lambda m, path: torch.save(m.state_dict(), path), "weights.pt"),
        refused="usage.weights",
        says="holds weights only",
    ),
    Case(
        "pickled module, not allowed",
        saved(torch.save, "model.pt"),
        refused="usage.pickle",
        says="runs whatever code is in it",
    ),
    Case(
        "another number of columns",
        lambda folder: saved(program, "model.pt2")(folder)._replace(data=rows(7)),
        refused="input.column",
        says="has 8 columns, the reference data has 7",
    ),
]
