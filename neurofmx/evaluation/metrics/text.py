"""Error rates of decoded text: edits (Levenshtein 1966) over the length of what was meant.

    error rate = Σ edits / Σ length      over all sentences, of words (WER) or characters (CER)

It may exceed 1: an answer can be longer than the truth.
"""

import re
from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein


def cer(prediction: Sequence[str], truth: Sequence[str]) -> float:
    """Character error rate.

    Raises:
        ValueError: Not as many answers as sentences, or nothing was meant.
    """
    return _error_rate(prediction, truth)


def wer(
    prediction: Sequence[str],
    truth: Sequence[str],
    words: Callable[[str], Sequence[str]] = str.split,
) -> float:
    """Word error rate.

    Args:
        words: Splits a sentence, at blanks unless said otherwise.

    Raises:
        ValueError: Not as many answers as sentences, or nothing was meant.
    """
    return _error_rate([words(each) for each in prediction], [words(each) for each in truth])


def falcon_words(sentence: str) -> list[str]:
    """Words of FALCON's handwriting (H2): `>` is the blank, and `~`, `,`, `!`, `?` are words.

    Source: falcon_challenge's evaluator; Willett et al. 2021, doi:10.1038/s41586-021-03506-2.
    """
    return re.sub(r"([~,!?])", r" \1", sentence.replace(">", " ")).split(" ")


def _error_rate(prediction: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> float:
    if len(prediction) != len(truth):
        raise ValueError(f"{len(prediction)} answers to {len(truth)} sentences; one each is needed")
    length = sum(len(each) for each in truth)
    if length == 0:
        raise ValueError(f"an error rate needs something meant; {len(truth)} sentences are empty")
    pairs = zip(prediction, truth, strict=True)
    return sum(Levenshtein.distance(p, t) for p, t in pairs) / length
