"""Codes: their cost by hand, and the book against a slow loop."""

import math

import pytest
import torch

from neurofmx.batches import Batch, Cells, ModelOutput
from neurofmx.models.channel_heads import CodeHead
from neurofmx.objectives.codes import Codes
from neurofmx.tokenizers import TOKENIZERS

K = 8


def tokenizer(kind="continuous", **options):
    config = TOKENIZERS[kind].Config(n_channels=3, width=16, **options)
    return TOKENIZERS[kind](config)


def head(seed=0, width=12, **options):
    torch.manual_seed(seed)
    return CodeHead(width, tokenizer(**options), K)


def traces(coder, n=5, tokens=4, channels=3, seed=0):
    """Cells of as many samples as the coder takes."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(n, tokens, channels, len(coder.project), generator=g)
    return Cells(values, torch.ones_like(values, dtype=torch.bool))


def loss(logits, codes, hidden, seen=None):
    """Of cells of one sample, or of the samples in `seen`, in one window of one channel."""
    hidden, codes = torch.tensor(hidden).reshape(1, -1, 1), torch.tensor(codes).reshape(1, -1, 1)
    here = torch.ones(codes.numel(), 1) if seen is None else torch.tensor(seen)
    here = here.bool().reshape(1, codes.numel(), 1, -1)
    batch = Batch(
        {},
        {},
        ["r"],
        [0],
        cells={"x": Cells(torch.zeros(here.shape), here)},
        hidden={"x": hidden},
        asked={"codes": {"x": hidden}},
    )
    heads = {"codes.x": torch.tensor(logits)[None, :, None], "code.x": codes}
    return Codes(signals=["x"]).loss(ModelOutput(torch.zeros(1, 1, 2), {}, heads), batch).item()


def test_hidden_cells_cost_their_cross_entropy_by_that_of_guessing():
    third = math.log(2)  # of codes with logits 0, 0 and log 2, told with 1/4, 1/4 and 1/2
    logits = [[0.0, 0.0, third], [0.0, 0.0, third], [9.0, 0.0, 0.0]]
    by_hand = (math.log(4) + math.log(2)) / 2 / math.log(3)
    assert loss(logits, [0, 2, 1], [True, True, False]) == pytest.approx(by_hand)


@pytest.mark.parametrize("k", [2, 64])
def test_a_guess_leaves_1_whatever_the_number_of_codes(k):
    assert loss([[0.0] * k] * 2, [0, 1], [True, True]) == pytest.approx(1)


def test_a_cell_that_was_recorded_in_part_has_no_code():
    logits, seen = [[0.0, 0.0], [0.0, 50.0]], [[True, True], [True, False]]
    assert loss(logits, [0, 0], [True, True], seen) == pytest.approx(1)
    assert loss(logits, [0, 0], [False, True], seen) == 0


def test_a_code_is_the_nearest_vector_of_the_book_to_the_projected_samples():
    coder = head()
    cells = traces(coder)
    found = coder.code(cells)
    book, project = coder.book.tolist(), coder.project.tolist()
    for place in torch.cartesian_prod(torch.arange(5), torch.arange(4), torch.arange(3)).tolist():
        x = cells.values[*place].tolist()
        projected = [
            sum(a * row[k] for a, row in zip(x, project, strict=True)) for k in range(coder.DIMS)
        ]
        length = math.dist(projected, [0] * coder.DIMS)
        far = [math.dist(vector, [p / length for p in projected]) for vector in book]
        assert found[*place] == far.index(min(far))
    assert len(found.unique()) > K / 2  # most are in use


def test_vectors_of_the_book_have_length_1_and_are_never_trained():
    coder = head()
    torch.testing.assert_close(coder.book.norm(dim=1), torch.ones(K))
    assert {"book", "project"} <= set(coder.state_dict())
    assert not {"book", "project"} & {name for name, _ in coder.named_parameters()}


def test_the_book_is_the_same_for_every_model():
    one, other = head(seed=0), head(seed=1, width=40)
    assert torch.equal(one.book, other.book)
    assert torch.equal(one.project, other.project)
    assert not torch.equal(one.enter.weight[:, :12], other.enter.weight[:, :12])
    cells = traces(one)
    assert torch.equal(one.code(cells), other.code(cells))


def test_a_code_does_not_depend_on_how_large_the_samples_are():
    coder = head()
    cells = traces(coder)
    assert torch.equal(coder.code(Cells(7 * cells.values, cells.seen)), coder.code(cells))


def test_a_head_that_has_not_learnt_guesses():
    coder = head()
    logits = coder(torch.randn(2, 4, 12), torch.randn(2, 3, 16))
    assert logits.shape == (2, 4, 3, K)
    assert not logits.any()
