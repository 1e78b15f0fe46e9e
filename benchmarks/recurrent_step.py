"""A first-order search step on text (both passes, the same batches and masks) against the tests' plain oracle.

python -m benchmarks.recurrent_step [--hidden 100] [--columns 64] [--words 35] [--vocabulary 10000] [--repeats 3]

The oracle computes one product per edge (not one per edge and operation), so repeated products do not raise the ratio.
All time the alpha gradient on the validation batch and the weight gradient on the train batch; updates are left out.
"compiled" is the package's step with the kernel, which needs a C++ compiler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from benchmarks.measure import OperatorCalls, alternate, report
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet
from ray_darts.spaces.supernet import Pass
from tests.spaces.mixing import Alphas
from tests.spaces.recurrent_oracle import RecurrentOracle


def random_batch(stream: str, words: int, columns: int, vocabulary: int) -> Batch:
    """Words drawn evenly from the vocabulary."""
    tokens = torch.randint(vocabulary, (words + 1, columns))
    return Batch(tokens[:-1], tokens[1:], Draws(0, stream, 0, 0, columns, columns), batch_dim=1)


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """The parameters require no gradient inside, as in the passes of a search step (`FlatVector.held`)."""
    module.requires_grad_(False)
    yield
    module.requires_grad_(True)


def steps(space: RecurrentSpace, words: int, columns: int, vocabulary: int) -> dict[str, Callable[[], object]]:
    """The two gradients of a first-order step, ours without and with the kernel and the oracle's, on equal batches."""
    facts, alphas = DataFacts(vocabulary), Alphas(space.layout(), torch.float32)
    supernet, compiled = RecurrentSupernet(space, facts), RecurrentSupernet(space, facts, kernel=Kernel())
    oracle = RecurrentOracle(space, supernet, dict(alphas.cells.items()))
    train, validation = (random_batch(name, words, columns, vocabulary) for name in ("train", "validation"))
    carry = torch.zeros(columns, space.hidden)

    def ours(supernet: RecurrentSupernet) -> None:
        supernet.begin_step()
        with held(supernet):
            validating = supernet.loss(validation, carry, Pass.ALPHA, alphas.mixing())
            torch.autograd.grad(validating.loss, list(alphas.parameters()))
        with held(alphas):
            training = supernet.loss(train, carry, Pass.WEIGHT, alphas.mixing())
            torch.autograd.grad(training.loss, list(supernet.parameters()))

    def plain() -> None:
        torch.autograd.grad(oracle.loss(validation, carry, weight_step=False)[0], list(oracle.alphas.values()))
        torch.autograd.grad(oracle.loss(train, carry, weight_step=True)[0], list(oracle.weights.values()))

    return {"oracle": plain, "ours": partial(ours, supernet), "compiled": partial(ours, compiled)}


def calls(step: Callable[[], object]) -> int:
    """Operator calls of one step."""
    counter = OperatorCalls()
    with counter:
        step()
    return counter.count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 100), ("columns", 64), ("words", 35), ("vocabulary", 10_000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    space = RecurrentSpace(embedding=arguments.hidden, hidden=arguments.hidden)
    candidates = steps(space, arguments.words, arguments.columns, arguments.vocabulary)
    timings = alternate(candidates, arguments.repeats)
    results = {
        **timings,
        "operator_calls": {name: calls(step) for name, step in candidates.items()},
        "ratio_of_medians": {name: timings["oracle"].median_s / each.median_s for name, each in timings.items()},
        "ratio_of_least": {name: timings["oracle"].least_s / each.least_s for name, each in timings.items()},
    }
    sizes = {name: getattr(arguments, name) for name in ("words", "columns", "vocabulary")}
    report(f"recurrent_step_{arguments.hidden}", {"space": space.model_dump(mode="json"), **sizes}, results)


if __name__ == "__main__":
    main()
